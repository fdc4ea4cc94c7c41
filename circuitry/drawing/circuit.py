"""A circuit as a value: the components that carry a behaviour, their token positions, and what flows between them.

A suite derives it from its tables. It can be written as a picture (token positions across, depth upwards, as in Figure 7 of
"Towards Universality"), as DOT, as Mermaid and as JSON. Only drawing needs matplotlib.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..architecture.export import quoted
from ..colours import arrow_colour, carried, clipped, fill, ink, number
from ..errors import CircuitryError, suggest
from ..html.shown import Shown
from ..store.files import write_whole

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMALIZED = "normalized effect"
"""The unit of circuits whose numbers are shares of the effect of exchanging the whole prompt."""
EVERYWHERE = "every position"
"""The column of nodes that were patched at all tokens at once; their names have no position."""


@dataclass(frozen=True)
class CircuitNode:
    """A component at a token position.

    ``depth`` orders the picture from the bottom: its integer part is the layer, its fraction the order inside the layer.
    ``effect`` is in the circuit's unit, NaN if not measured. ``role`` is that of the node's family. ``note`` is what somebody wrote
    about it, such as the label of a latent.

    >>> CircuitNode("ssm_state[1] @ B+1", "B+1", 1.5, -2.0).label
    'ssm_state[1]'
    """

    name: str
    position: str
    depth: float
    effect: float
    role: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """What its box says beside its effect: the label, and below it the note, cut if it is long.

        >>> CircuitNode("resid[2].latent[17] @ B", "B", 2, -1.0, note="closing brackets").text.splitlines()
        ['resid[2].latent[17]', 'closing brackets']
        """
        return "\n".join(filter(None, [self.label, clipped(self.note)]))

    @property
    def label(self) -> str:
        """The name without the position, which the column of the picture shows."""
        component, _, position = self.name.rpartition("@")
        return component.rstrip() if position.strip() == self.position and component else self.name


@dataclass(frozen=True)
class CircuitEdge:
    """An arrow between two nodes, by name; ``label`` says what flows or how, such as "k" or "lag 2".

    ``effect`` is in the circuit's unit, NaN if not measured. ``patched`` names the node whose patch has this effect, if it is
    neither end: a tap of the convolution lies between the two nodes that the arrow joins.

    >>> CircuitEdge("conv_in[1]@A", "ssm_in[1]@B+1", -1.7, "lag 2", "conv_tap[1,2]@B+1").effect
    -1.7
    """

    source: str
    target: str
    effect: float
    label: str = ""
    patched: str = ""


@dataclass(frozen=True)
class Circuit(Shown):
    """Nodes and edges over token positions, which are listed in the order of the text.

    ``legend`` has sentences that its picture needs, such as what a node for several heads is. ``whole`` is the effect of exchanging the
    whole prompt in the circuit's unit: effects of its sign are blue. None if it is not known, and for normalized effects, where it is 1.
    Raises CircuitryError for a repeated name, for an edge to a node that does not exist, and for an unknown position.

    >>> a, b = CircuitNode("head[0,1]@B", "B", 0, -1.0), CircuitNode("logits@END", "END", 2, -3.0)
    >>> circuit = Circuit("induction", ("A", "B", "END"), (a, b), (CircuitEdge(a.name, b.name, -0.5, "k"),))
    >>> Circuit.from_json(circuit.to_json()) == circuit
    True
    """

    title: str
    positions: tuple[str, ...]
    nodes: tuple[CircuitNode, ...]
    edges: tuple[CircuitEdge, ...]
    unit: str = "change of logit"
    legend: tuple[str, ...] = field(default=(), kw_only=True)
    whole: float | None = field(default=None, kw_only=True)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_circuit

        return of_circuit(self)

    def __post_init__(self) -> None:
        for name in ("positions", "nodes", "edges", "legend"):  # lists are taken too
            object.__setattr__(self, name, tuple(getattr(self, name)))
        names = [node.name for node in self.nodes]
        _refuse_twice("node", names)
        _refuse_twice("position", self.positions)
        _refuse_twice("edge", [f"{edge.source} -> {edge.target} {edge.label}".rstrip() for edge in self.edges])
        for node in self.nodes:
            if node.position not in self.positions:
                raise CircuitryError(f"{node.name} is at an unknown position; {suggest(node.position, self.positions)}")
        for end in (end for edge in self.edges for end in (edge.source, edge.target)):
            if end not in names:
                raise CircuitryError(f"an edge names {end!r}, which is not a node of the circuit; {suggest(end, names)}")

    @property
    def limit(self) -> float:
        """The largest absolute effect of a node, at which the colours end, in the circuit's unit; 1 if all are 0 or NaN."""
        return max((abs(n.effect) for n in self.nodes if math.isfinite(n.effect)), default=0.0) or 1.0

    def carried(self, effect: float) -> float:
        """An effect as it is coloured: above zero if it carries the behaviour.

        >>> Circuit("t", (), (), (), whole=-3.0).carried(-1.0)
        1.0
        """
        return carried(effect, self.whole)

    def to_dot(self) -> str:
        """The circuit in Graphviz's DOT language, a cluster for each position.

        >>> print(Circuit("t", ("A",), (CircuitNode("x@A", "A", 0, 1.0),), ()).to_dot().splitlines()[4])
          subgraph cluster_0 { label="A"; style=dotted;
        """
        lines = [f"digraph {quoted(self.title)} {{", f"  label={quoted(f'{self.title} ({self.unit})')}; rankdir=BT;"]
        lines += ['  node [shape=box, style="rounded,filled", fontname="sans-serif"];', '  edge [fontname="sans-serif"];']
        for column, position in enumerate(self.positions):
            inside = [node for node in self.nodes if node.position == position]
            lines.append(f"  subgraph cluster_{column} {{ label={quoted(position)}; style=dotted;")
            lines += [*map(self._dot_node, inside), "  }"]
        return "\n".join([*lines, *map(self._dot_edge, self.edges), "}"]) + "\n"

    def _dot_node(self, node: CircuitNode) -> str:
        effect = self.carried(node.effect)
        colours = f'fillcolor="{fill(effect, self.limit)}", fontcolor="{ink(effect, self.limit)}"'
        return f"    {quoted(node.name)} [label={quoted(_lines(node.text, node.effect))}, {colours}];"

    def _dot_edge(self, edge: CircuitEdge) -> str:
        style = f'label={quoted(_lines(edge.label, edge.effect))}, color="{arrow_colour(self.carried(edge.effect))}"'
        return f"  {quoted(edge.source)} -> {quoted(edge.target)} [{style}];"

    def to_mermaid(self) -> str:
        """The circuit as a Mermaid flow chart, which GitHub and many notebooks show, with a box for each position.

        >>> print(Circuit("t", ("A",), (CircuitNode("x@A", "A", 0, 1.0),), ()).to_mermaid().splitlines()[5])
            n0["x<br/>+1.00"]
        """
        return "\n".join(self._mermaid()) + "\n"

    def _mermaid(self) -> Iterator[str]:
        ids = {node.name: f"n{i}" for i, node in enumerate(self.nodes)}
        yield from ("---", f"title: {json.dumps(f'{self.title} ({self.unit})')}", "---", "flowchart BT")
        for column, position in enumerate(self.positions):
            yield f'  subgraph p{column}["{_mermaid_text(position)}"]'
            for node in self.nodes:
                if node.position == position:
                    yield f'    {ids[node.name]}["{_mermaid_text(_lines(node.text, node.effect))}"]'
            yield "  end"
        for edge in self.edges:
            label = _mermaid_text(_lines(edge.label, edge.effect))
            yield f"  {ids[edge.source]} -->" + (f'|"{label}"| ' if label else " ") + ids[edge.target]
        for node in self.nodes:
            effect = self.carried(node.effect)
            yield f"  style {ids[node.name]} fill:{fill(effect, self.limit)},color:{ink(effect, self.limit)}"

    def to_json(self) -> str:
        """The circuit as JSON; an effect that was not measured is null.

        >>> json.loads(Circuit("t", ("A",), (CircuitNode("x", "A", 0, math.nan),), ()).to_json())["nodes"][0]["effect"] is None
        True
        """
        data = asdict(self)
        for item in (*data["nodes"], *data["edges"]):
            item["effect"] = item["effect"] if math.isfinite(item["effect"]) else None
        return json.dumps(data, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote. Raises CircuitryError for anything else.

        >>> Circuit.from_json('{"title": "t", "positions": ["A"], "nodes": [], "edges": [], "unit": "logit"}').unit
        'logit'
        """
        try:
            data = json.loads(text)
            nodes = tuple(CircuitNode(**_measured(node)) for node in data["nodes"])
            edges = tuple(CircuitEdge(**_measured(edge)) for edge in data["edges"])
            legend = tuple(map(str, data.get("legend", ())))
            whole = None if data.get("whole") is None else float(data["whole"])
            return cls(data["title"], tuple(data["positions"]), nodes, edges, data["unit"], legend=legend, whole=whole)
        except CircuitryError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CircuitryError(f"this JSON does not describe a circuit ({error!r}); Circuit.to_json writes one") from error

    def draw(self, ax: Axes | None = None, style: str | None = None, width: float | None = None) -> Figure:
        """The picture with its legend, on a new figure of its natural size in inches or shrunk onto given axes.

        ``width``: inches that it may use; boxes go below each other sooner. ``style="paper"`` is for a column.

        >>> Circuit("nothing", ("A", "B"), (), ()).draw().get_axes()[0].texts[-1].get_text()
        'no node above the threshold'
        """
        from .circuit_picture import draw
        from .figures import styled

        with styled(style):
            return draw(self, ax, width)

    def save(self, path: str | Path, style: str | None = None) -> None:
        """Write the circuit as .svg, .png or .pdf (the picture), .dot, .mmd (Mermaid) or .json, by the file's suffix.

        Raises CircuitryError for another suffix.

        >>> Circuit("nothing", (), (), ()).save("circuit.docx")
        Traceback (most recent call last):
            ...
        circuitry.errors.CircuitryError: a circuit cannot be saved as '.docx'; try .svg, .png, .pdf, .dot, .mmd, .json
        """
        texts = {".dot": self.to_dot, ".mmd": self.to_mermaid, ".json": self.to_json}
        pictures, kind = (".svg", ".png", ".pdf"), Path(path).suffix
        if kind in texts:
            write_whole(Path(path), texts[kind]())
        elif kind in pictures:
            from .figures import save

            save(self.draw(style=style), path)
        else:
            raise CircuitryError(f"a circuit cannot be saved as {kind!r}; try {', '.join((*pictures, *texts))}")


def _refuse_twice(kind: str, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise CircuitryError(f"{kind} {name!r} is in the circuit {times} times; names must differ")


def _lines(label: str, effect: float) -> str:
    return "\n".join(line for line in (label, number(effect)) if line)


def _measured(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "effect": math.nan if item["effect"] is None else item["effect"]}


def _mermaid_text(text: str) -> str:
    for character, entity in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", "<br/>")):
        text = text.replace(character, entity)
    return text
