"""A matplotlib figure as an element of a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .figures import as_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline(figure: Figure) -> str:
    """A figure as an SVG element that is as wide as its container, up to one and a half times its own size.

    >>> from matplotlib.figure import Figure
    >>> inline(Figure()).startswith("<svg")
    True
    """
    text = as_svg(figure)
    svg = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    size = rf'\1 width="100%" style="max-width: {figure.get_figwidth() * 1.5:.1f}in"'
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', size, svg, count=1)
