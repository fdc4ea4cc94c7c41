"""The values that planning makes: cells of a table, and the passes of each cell with what they write, freeze and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..architecture.graph import Graph
from ..paths.positions import Position
from ..paths.values import Node, Path, Site
from .interventions import RESAMPLE, Intervention

Value: TypeAlias = int | str


class Sweep(tuple[Value, ...]):
    """Values of an axis that the user did not choose: a task's sweep, or a suite's own positions.

    If two of them are the same token, one is left out; of values that a user chose, two such are refused.

    >>> Sweep(["B", "B+1"])
    ('B', 'B+1')
    """

    __slots__ = ()


@dataclass(frozen=True)
class Cell:
    """One cell of the result table: the value of each axis, and the path with those values filled in."""

    values: tuple[tuple[str, Value], ...]
    path: Path


SOURCE, MADE = "source", "made"
"""Where the value of a first leg's write comes from: the source input, or the intervention, which made it beforehand."""


@dataclass(frozen=True)
class Write:
    """Put a value into a node at a position (None: all): ``value`` is SOURCE, MADE or the number of the pass that read it."""

    node: Node
    at: Position | None
    value: str | int

    @property
    def made(self) -> bool:
        """Whether the intervention makes the value, so that no row of a batch has it.

        >>> Write(Node("embed"), None, SOURCE).made
        False
        """
        return self.value == MADE


@dataclass(frozen=True)
class Pass:
    """One leg's forward pass on the base input: writes first, everything in ``frozen`` at its base value, then reads."""

    writes: tuple[Write, ...]
    frozen: frozenset[Node]
    reads: tuple[Site, ...]


@dataclass(frozen=True)
class CellPlan:
    """One cell of the table: its axis values, its path without open axes, and its passes; the last one's reading is the result."""

    values: tuple[tuple[str, Value], ...]
    path: Path
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Plan:
    """What will run. ``base`` is the input that is patched and ``source`` the one its values come from.

    Noising has base "clean"; denoising swaps the two. ``skipped`` are cells whose effect is exactly zero by the graph, with
    the reason; they are not run. ``named`` has the paths of a joined plan (``join``) by label.
    """

    path: Path
    graph: Graph
    axes: dict[str, str]
    cells: tuple[CellPlan, ...]
    skipped: tuple[tuple[Cell, str], ...]
    intervention: Intervention = RESAMPLE
    base: Literal["clean", "corrupted"] = "clean"
    named: Mapping[str, Path] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The input whose values are patched in.

        >>> import circuitry as ct
        >>> from circuitry.planning import plan
        >>> plan("mlp[0] -> logits", ct.graph("gpt2")).source
        'corrupted'
        """
        return "corrupted" if self.base == "clean" else "clean"

    @property
    def title(self) -> str:
        """The path; for a joined plan, the first path and how many more there are.

        >>> import circuitry as ct
        >>> from circuitry.planning import join, plan
        >>> join({n: plan(f"mlp[{n}] -> logits", ct.graph("gpt2")) for n in (0, 1)}, "which").title
        'mlp[0] -> logits (and 1 more)'
        """
        return str(self.path) + (f" (and {len(self.named) - 1} more)" if len(self.named) > 1 else "")
