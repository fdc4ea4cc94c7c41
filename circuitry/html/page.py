"""Pages from templates: one file that contains its style and script, and needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from ..colours import DARK_PAGE, MEANING, PAGE, PAIR, PAIR_ON_DARK, number, paint
from ..thresholds import SIGNIFICANT
from .formats import brief, hundredths, interval, measured, moment, percent, small
from .glossary import Defined, explained


def environment(package: str = "") -> Environment:
    """The templates of a ``package``, then those that all share; every value that is put into them is escaped.

    >>> environment().from_string("{{ effect | signed }} {{ name }}").render(effect=-1.5, name="<b>")
    '−1.50 &lt;b&gt;'
    """
    loader = ChoiceLoader([PackageLoader(name) for name in (package, __package__) if name])
    shared = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    shared.filters |= {"signed": number, "percent": percent, "small": small, "url": quote}
    shared.filters |= {"brief": brief, "measured": measured, "moment": moment}
    shared.filters |= {"explained": explained, "hundredths": hundredths}
    shared.globals |= {
        "paint": paint,
        "interval": interval,
        "level": SIGNIFICANT,
        "meaning": MEANING,
        "page": PAGE,
        "dark_page": DARK_PAGE,
    }
    shared.globals |= {"pair": list(zip(PAIR, PAIR_ON_DARK, strict=True))}
    return shared


def render(
    template: str, *, package: str = "", styles: Sequence[str] = ("style.css",), script: str = "report.js", **contents: Any
) -> str:
    """A page from a template of a ``package`` that extends base.html; all values are escaped.

    The page allows only its own script, by its hash, so a script that came in with the data cannot run.

    >>> render("base.html").splitlines()[0]
    '<!doctype html>'
    """
    templates = environment(package)
    style, code = (Markup("".join(templates.get_template(name).render() for name in names)) for names in (styles, [script]))
    return templates.get_template(template).render(style=style, script=code, digest=digest(code), terms=Defined(), **contents)


def digest(code: str) -> str:
    """The hash by which a page allows a script.

    >>> digest("")[:8]
    '47DEQpj8'
    """
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
