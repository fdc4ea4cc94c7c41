"""A circuit's picture as SVG inside a page: with unique ids, with nodes as links, and without effects on the rest of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ..colours import number
from .circuit import Circuit
from .figures import as_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"


NARROW = 4.0
"""Inches that a telephone has for a picture: there, boxes stand below each other."""
_SWITCH = (
    "@media screen and (max-width: 40rem) { svg.circuit-wide { display: none !important } }"
    " @media print, (min-width: 40.01rem) { svg.circuit-narrow { display: none !important } }"
)


def embedded(circuit: Circuit, prefix: str, linked: bool = True) -> str:
    """The circuit as ``<svg>`` elements, a wide and a narrow one, of which a page shows what fits its window.

    If ``linked``, node n is a link to ``#PREFIX-n``, the id of its panel. All ids get the prefix, so that a page can contain
    several pictures.

    >>> from circuitry.drawing.circuit import CircuitNode
    >>> svg = embedded(Circuit("c", ("A",), (CircuitNode("mlp[0]", "A", 0, 1.0),), ()), "c")
    >>> svg.startswith("<svg"), 'href="#c-0"' in svg, "DOCTYPE" in svg
    (True, True, False)
    """
    wide, narrow = (circuit.draw(width=width) for width in (None, NARROW))
    if narrow.get_figwidth() >= wide.get_figwidth():
        return _element(wide, circuit, prefix, prefix, linked, "")
    shown = _element(wide, circuit, prefix, prefix, linked, "circuit-wide")
    return shown + _element(narrow, circuit, prefix, f"{prefix}-narrow", linked, "circuit-narrow")


def _element(figure: Figure, circuit: Circuit, prefix: str, ids: str, linked: bool, kind: str) -> str:
    root = ElementTree.fromstring(as_svg(figure))
    for part in ("metadata", "defs"):
        for element in root.findall(f"{{{_SVG}}}{part}"):
            if part == "metadata" or element.find(f"{{{_SVG}}}style") is not None:
                root.remove(element)  # a style inside an inline picture would apply to the whole page
    if linked:
        _link(root, circuit, prefix)
    for element in root.iter():
        _rename(element, ids)
    root.set("role", "group")
    root.set("aria-label", circuit.title or "circuit")
    # A size in points would overflow a narrow page, so it becomes the largest width; at the least width, text can still be read.
    points = float(root.get("width", "400pt").removesuffix("pt"))
    least = "min-width:0" if kind == "circuit-narrow" else f"--least:{points * 1.1:.0f}px"
    root.set("style", f"{least};max-width:{points * 1.5:.0f}px")
    if kind:
        root.set("class", f"{root.get('class', '')} {kind}".strip())
        sheet = root.find(f"{{{_SVG}}}style")
        if sheet is not None:
            sheet.text = f"{sheet.text}{_SWITCH}"
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _link(root: ElementTree.Element, circuit: Circuit, prefix: str) -> None:
    """Put each node's box inside a link to its panel."""
    boxes = {f"node {node.name}": (index, node) for index, node in enumerate(circuit.nodes)}
    for parent in list(root.iter()):
        for position, child in enumerate(list(parent)):
            if child.get("id") in boxes:
                index, node = boxes[child.get("id", "")]
                label = f"{node.name} at {node.position} {number(node.effect)}".rstrip()
                link = ElementTree.Element(f"{{{_SVG}}}a", {"href": f"#{prefix}-{index}", "class": "node", "aria-label": label})
                link.append(child)
                parent[position] = link


def _rename(element: ElementTree.Element, prefix: str) -> None:
    if name := element.attrib.pop("id", ""):
        # Two arrows between the same boxes have the same name, but an id must be unique.
        element.set(*(("data-name", name) if name.startswith(("node ", "edge ")) else ("id", f"{prefix}:{name}")))
    for key, value in element.attrib.items():
        if value.startswith("url(#"):
            element.set(key, f"url(#{prefix}:{value[5:]}")
    target = element.get(_HREF, "")
    if target.startswith("#"):
        element.set(_HREF, f"#{prefix}:{target[1:]}")
