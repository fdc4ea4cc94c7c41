"""What plans in words, metrics and interventions show in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..html.output import caption, code, facts, heading, steps

if TYPE_CHECKING:
    from .explain import Explanation
    from .interventions import Intervention
    from .metrics import Metric


def of_explanation(plan: Explanation) -> Iterator[Markup]:
    """The paths, what is run with a label for each line, and the remarks.

    >>> from circuitry.planning.explain import Explanation
    >>> "<td>1 cell</td>" in "".join(of_explanation(Explanation("a -> b\\n  table      1 cell")))
    True
    """
    for path in plan.paths:
        yield code(path)
    yield steps(plan.rows)
    yield caption(" ".join(plan.remarks))


def of_metric(metric: Metric) -> Iterator[Markup]:
    """The name and the unit of a metric, and what it reads.

    >>> from circuitry.planning.metrics import METRICS
    >>> "the answer" in "".join(of_metric(METRICS["logit"]))
    True
    """
    yield heading(f"metric {metric.name}", metric.unit)
    reads = "all logits" if metric.reads == "all" else f"the logits of the {metric.reads}"
    yield facts([("reads", reads), ("effects", "of either sign" if metric.signed else "never negative")])


def of_intervention(intervention: Intervention) -> Iterator[Markup]:
    """The name of an intervention, and what the patched node becomes.

    >>> from circuitry.planning.interventions import INTERVENTIONS
    >>> "zeros" in "".join(of_intervention(INTERVENTIONS["zero"]))
    True
    """
    yield heading(f"intervention {intervention}", intervention.phrase)
