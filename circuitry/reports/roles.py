"""Which parts of two circuits correspond, by role: a state and an attention head can have the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..architecture.named import graph
from ..drawing.circuit import Circuit, CircuitNode
from ..errors import CircuitryError
from ..paths.values import Path
from ..results.recorded import paths_of
from ..results.table import PatchingTable

CORRESPONDENCE = {
    "the answer": ("logits",),
    "keeps it and hands it to the answer": ("state", "induction head", "name mover", "S suppressor", "other helping head"),
    "brings earlier tokens together and writes them": (
        "write_input",
        "conv_input",
        "conv_edge",
        "previous-token head",
        "writes ...",
    ),
    "the token itself": ("embed",),
}
"""Rows of the comparison, from the answer down, with the roles in each. In section 6 of "Towards Universality", Mamba's
convolution and scan input do what a previous-token head does, and its state does what an induction head does."""
_CARRIES, _WRITES = list(CORRESPONDENCE)[1:3]
_ABOVE = 2  # rows of CORRESPONDENCE that come before the rows of roles without a counterpart


@dataclass(frozen=True)
class AlignedRow:
    """One row of the aligned circuits: a function, and the nodes that have it in each circuit."""

    name: str
    roles: tuple[str, ...]
    sides: tuple[list[CircuitNode], ...]


def aligned(circuits: Sequence[Circuit], summaries: Sequence[Mapping[str, Any]]) -> list[AlignedRow]:
    """Rows of roles that either circuit has, from the answer down; a role without a counterpart has a separate row.

    >>> first = Circuit("a", ("END",), (CircuitNode("h[1]", "END", 1, 1.0, "state"),), ())
    >>> second = Circuit("b", ("END",), (CircuitNode("head[1,0]", "END", 1, 1.0, "head"),), ())
    >>> [(row.name, [[n.name for n in side] for side in row.sides]) for row in aligned([first, second], [{}, {}])]
    [('keeps it and hands it to the answer', [['h[1]'], ['head[1,0]']])]
    """
    roles_by_node = [_named_roles(summary) for summary in summaries]
    placed = [
        [(node, *_row_and_role(circuit, node, named)) for node in circuit.nodes]
        for circuit, named in zip(circuits, roles_by_node, strict=True)
    ]
    heights: dict[str, float] = {}  # with the depth of the highest node there
    for node, row, _ in (entry for side in placed for entry in side):
        heights[row] = max(node.depth, heights.get(row, node.depth))
    rows, alone = list(CORRESPONDENCE), sorted(heights.keys() - CORRESPONDENCE.keys(), key=lambda row: (-heights[row], row))
    order = [row for row in (*rows[:_ABOVE], *alone, *rows[_ABOVE:]) if row in heights]
    aligned_rows = []
    for row in order:
        sides = tuple(sorted((n for n, at, _ in side if at == row), key=lambda n: -n.depth) for side in placed)
        roles = dict.fromkeys(role for side in placed for _, at, role in side if at == row)
        aligned_rows.append(AlignedRow(row, tuple(roles), sides))
    return aligned_rows


def row_of(role: str) -> str:
    """The row for components of a role; the row of a role without a counterpart has the role's name.

    >>> row_of("state") == row_of("induction head"), row_of("S-inhibition head")
    (True, 'S-inhibition head')
    """
    return next((row for row, roles in CORRESPONDENCE.items() if any(_matches(role, pattern) for pattern in roles)), role)


def _matches(role: str, pattern: str) -> bool:
    """Whether a role is the one that ``CORRESPONDENCE`` names; dots at its end match any rest."""
    return role.startswith(pattern.removesuffix("...")) if pattern.endswith("...") else role == pattern


def _named_roles(summary: Mapping[str, Any]) -> dict[str, str]:
    """The role of each component that the summary names."""
    return {str(component["node"]): str(component["role"]) for component in summary.get("components") or []}


def _row_and_role(circuit: Circuit, node: CircuitNode, named: Mapping[str, str]) -> tuple[str, str]:
    """The row of a node and its role, from the summary if it names the node, because its roles are finer than a family's.

    A head that the summary does not name is taken to write the answer if it is at the last position, and otherwise to write for
    other heads. An induction head at any other position acts through other heads. No state does that, so it has a separate row.
    """
    role, last = named.get(node.name) or named.get(node.label) or node.role, node.position == circuit.positions[-1]
    if role == "head":
        return (_CARRIES if last else _WRITES), role
    if role == "induction head" and not last:
        return role, role
    return row_of(role) or "other parts", role or "other parts"


OTHER = "other tables"


def row_of_table(table: PatchingTable, architecture: str) -> str:
    """The row for a table that measures nodes of one role, by what its path patches; ``OTHER`` for a table without a path.

    A state, or a head at the last position whose output is patched alone, hands over to the answer. A port of a head, a head that
    acts through others, and what leads into a state are about how tokens come together.

    >>> import numpy as np
    >>> provenance = {"path": "head[{layer},{head}] @ END -> logits freezing head"}
    >>> row_of_table(PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", provenance), "gpt2")
    'keeps it and hands it to the answer'
    """
    path = next(iter(paths_of(table.provenance).values()), None)
    if path is None:
        return OTHER
    try:
        role = graph(architecture).family(path.sources[0].node.family).role
    except CircuitryError:  # a custom architecture that this machine does not have
        return OTHER
    if role == "head":
        return _CARRIES if _hands_over(path) else _WRITES
    return row_of(str(role)) if row_of(str(role)) in CORRESPONDENCE else OTHER


def _hands_over(path: Path) -> bool:
    """Whether a path patches a whole head and reads what the head itself gives to the next leg's end."""
    source = path.sources[0]
    return source.node.port is None and len(path.legs) == 1 and source.at is not None and str(source.at).startswith("END")
