"""A circuit's picture as SVG inside a page: with unique ids, with nodes as links, and without effects on the rest of the page."""

from __future__ import annotations

import tempfile
from pathlib import Path
from xml.etree import ElementTree

from ..colours import number
from .circuit import Circuit

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"


def embedded(circuit: Circuit, prefix: str, linked: bool = True) -> str:
    """The circuit as an ``<svg>`` element. If ``linked``, node n is a link to ``#PREFIX-n``, the id of its panel.

    All ids get the prefix, so that a page can contain several pictures.

    >>> from circuitry.drawing.circuit import CircuitNode
    >>> svg = embedded(Circuit("c", ("A",), (CircuitNode("mlp[0]", "A", 0, 1.0),), ()), "c")
    >>> svg.startswith("<svg"), 'href="#c-0"' in svg, "DOCTYPE" in svg
    (True, True, False)
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "circuit.svg"
        circuit.save(file)
        root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    for part in ("metadata", "defs"):
        for element in root.findall(f"{{{_SVG}}}{part}"):
            if part == "metadata" or element.find(f"{{{_SVG}}}style") is not None:
                root.remove(element)  # a style inside an inline picture would apply to the whole page
    if linked:
        _link(root, circuit, prefix)
    for element in root.iter():
        _rename(element, prefix)
    root.set("role", "group")
    root.set("aria-label", circuit.title or "circuit")
    # A size in points would overflow a narrow page, so it becomes the largest width.
    root.set("style", f"max-width:{float(root.get('width', '400pt').removesuffix('pt')) * 1.5:.0f}px")
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
