{% include "report.js" %}
{% include "examples.js" %}
