"""Puts the notebooks on the site: each ``.ipynb`` becomes a page of Markdown, so that it has the site's own style and makes no request.

A hook of mkdocs beside hooks.py. (mkdocs-jupyter was tried: its pages load MathJax from another host and bring JupyterLab's style.)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TEMPLATE = """
{%- extends "index.md.j2" -%}
{%- block input %}
{%- if cell.source %}

```python
{{ cell.source }}
```

{% endif -%}
{%- endblock input -%}
{%- block stream %}

```text
{{ output.text.rstrip() }}
```

{% endblock stream -%}
{%- block data_text scoped %}

```text
{{ output.data["text/plain"].rstrip() }}
```

{% endblock data_text -%}
{%- block data_html scoped %}

<div class="from-notebook">
{{ output.data["text/html"] | no_blank_lines }}
</div>

{% endblock data_html -%}
"""
TO_NOTEBOOK = re.compile(r"\]\(([\w/.]*)\.ipynb\)(?!{)")
"""A link to a notebook, unless it has attributes, as the link that downloads one."""


def on_files(files: Any, config: Any) -> Any:
    """The site's files with a page for every notebook and its pictures; mkdocs calls it."""
    from mkdocs.structure.files import File

    for notebook in sorted((Path(config.docs_dir) / "notebooks").glob("*.ipynb")):
        text, pictures = page(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page whose links to notebooks, which work in the repository, lead to their pages; mkdocs calls it."""
    return TO_NOTEBOOK.sub(r"](\1.md)", markdown)


def page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    from jinja2 import DictLoader
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter(
        extra_loaders=[DictLoader({"page.md.j2": TEMPLATE})],
        template_file="page.md.j2",
        filters={"no_blank_lines": lambda text: re.sub(r"\n\s*\n", "\n", text)},  # one would end the block of HTML
    )
    text, resources = exporter.from_filename(str(notebook), resources={"unique_key": notebook.stem})
    lead = f"[This page as a notebook]({notebook.name}){{ .md-button download }}\n\n"
    heading, _, rest = text.lstrip().partition("\n")
    return f"{heading}\n\n{lead}{on_page_markdown(rest)}", dict(resources["outputs"])
