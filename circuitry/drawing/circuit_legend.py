"""What the marks of a circuit's picture mean, below it: boxes, arrows, numbers and the nodes that stand for several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..colours import MEANING
from .circuit import NORMALIZED, Circuit
from .paper import text_size

Mark: TypeAlias = Literal["box", "grey box", "arrow", "grey arrow", ""]

SIZE, LINE = 6.2, 0.115  # points, inches
WIDE = 0.34  # inches for the mark
_OF_NORMALIZED = (
    "+1.00 is the effect of exchanging the whole prompt, which the logits have. Each number is the share that one box or arrow has "
    "if it is patched alone: shares overlap or miss what only several do together, so they need not add up to 1."
)
_PORTS = {"q": "queries", "k": "keys", "v": "values"}


@dataclass(frozen=True)
class Entry:
    """A mark, which may be none, and what it means, in lines that fit the page."""

    mark: Mark
    lines: tuple[str, ...]


def legend(circuit: Circuit, width: float) -> list[Entry]:
    """The entries for what a circuit has, in lines of at most ``width`` inches.

    >>> from circuitry.drawing.circuit import CircuitNode
    >>> circuit = Circuit("t", ("A",), (CircuitNode("x", "A", 0, 1.0),), (), legend=("x: a thing",))
    >>> [(entry.mark, entry.lines) for entry in legend(circuit, 4.0)]
    [('box', ('component at a token, with its change of logit',)), ('', ('x: a thing',))]
    """
    texts = [*_marks(circuit), *(("", text) for text in _notes(circuit))]
    return [Entry(mark, _broken(text, width - (WIDE if mark else 0.0))) for mark, text in texts]


def height(entries: list[Entry]) -> float:
    """How high a legend is in inches, with the space around it; 0 for none.

    >>> height([]), height([Entry("box", ("a", "b"))])
    (0.0, 0.37)
    """
    return LINE * sum(len(entry.lines) for entry in entries) + 0.14 if entries else 0.0


def _marks(circuit: Circuit) -> list[tuple[Mark, str]]:
    nodes = [math.isfinite(node.effect) for node in circuit.nodes]
    edges = [math.isfinite(edge.effect) for edge in circuit.edges]
    labels = {edge.label for edge in circuit.edges}
    ports = [port for port in _PORTS if port in labels]
    read = f"; {', '.join(ports)}: into {', '.join(_PORTS[port] for port in ports)}" if ports else ""
    lags = "; lag 2: read by the convolution two tokens later" if any("lag " in label for label in labels) else ""
    marks: list[tuple[Mark, str, bool]] = [
        ("box", f"component at a token, with its {circuit.unit}", any(nodes)),
        ("grey box", "component whose effect was not measured", not all(nodes)),
        ("arrow", f"what flows from one to the other, with its {circuit.unit}; wider is stronger{read}{lags}", any(edges)),
        ("grey arrow", "a connection that was not patched by itself, so that it has no number", not all(edges)),
    ]
    return [(mark, text) for mark, text, used in marks if used]


def _notes(circuit: Circuit) -> list[str]:
    normalized = circuit.unit == NORMALIZED
    colours = [f"{MEANING[:1].upper()}{MEANING[1:]}."] if normalized or circuit.whole is not None else []
    return [*colours, *circuit.legend, *([_OF_NORMALIZED] if normalized and circuit.nodes else [])]


def _broken(text: str, width: float) -> tuple[str, ...]:
    """A text in lines of at most this width, if no word is wider. A screen rounds the width of every letter, hence the rest."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and text_size(longer, SIZE)[0] > 0.92 * width:
            lines.append(word)
        else:
            lines[-1] = longer
    return tuple(lines)
