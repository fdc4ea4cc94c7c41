"""Which parts of two circuits correspond, by role: a state and an attention head do the same work in different machinery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..drawing.circuit import Circuit, CircuitNode

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
"""Rows of the comparison, from the answer down, with the roles that stand in each: section 6 of "Towards Universality"
finds that Mamba's convolution and scan input do what a previous-token head does, and its state what an induction head does."""
_CARRIES, _WRITES = list(CORRESPONDENCE)[1:3]
_ABOVE = 2  # rows before those of roles without a counterpart


@dataclass(frozen=True)
class AlignedRow:
    """One row of the aligned circuits: what is done, and the nodes that do it in each."""

    name: str
    roles: tuple[str, ...]
    sides: tuple[list[CircuitNode], ...]


def aligned(circuits: Sequence[Circuit], summaries: Sequence[Mapping[str, Any]]) -> list[AlignedRow]:
    """Rows of roles that either circuit has, from the answer down; a role without a counterpart has a row of its own.

    >>> one = Circuit("a", ("END",), (CircuitNode("h[1]", "END", 1, 1.0, "state"),), ())
    >>> two = Circuit("b", ("END",), (CircuitNode("head[1,0]", "END", 1, 1.0, "head"),), ())
    >>> [(part.name, [[n.name for n in side] for side in part.sides]) for part in aligned([one, two], [{}, {}])]
    [('keeps it and hands it to the answer', [['h[1]'], ['head[1,0]']])]
    """
    known = [_known(summary) for summary in summaries]
    placed = [
        [(node, *_place(circuit, node, said)) for node in circuit.nodes] for circuit, said in zip(circuits, known, strict=True)
    ]
    found: dict[str, float] = {}  # with the depth of the highest node there
    for node, row, _ in (one for side in placed for one in side):
        found[row] = max(node.depth, found.get(row, node.depth))
    rows, alone = list(CORRESPONDENCE), sorted(found.keys() - CORRESPONDENCE.keys(), key=lambda row: (-found[row], row))
    order = [row for row in (*rows[:_ABOVE], *alone, *rows[_ABOVE:]) if row in found]
    made = []
    for row in order:
        sides = tuple(sorted((n for n, at, _ in side if at == row), key=lambda n: -n.depth) for side in placed)
        roles = dict.fromkeys(role for side in placed for _, at, role in side if at == row)
        made.append(AlignedRow(row, tuple(roles), sides))
    return made


def row_of(role: str) -> str:
    """The row in which components of a role stand, as a suite's summary names it; a role without a counterpart is its own row.

    >>> row_of("state") == row_of("induction head"), row_of("S-inhibition head")
    (True, 'S-inhibition head')
    """
    return next((row for row, roles in CORRESPONDENCE.items() if any(_is(role, known) for known in roles)), role)


def _is(role: str, known: str) -> bool:
    """Whether a role is one of ``CORRESPONDENCE``, where dots stand for the rest of it."""
    return role.startswith(known.removesuffix("...")) if known.endswith("...") else role == known


def _known(summary: Mapping[str, Any]) -> dict[str, str]:
    """Role of each component that the summary names."""
    return {str(one["node"]): str(one["role"]) for one in summary.get("components") or []}


def _place(circuit: Circuit, node: CircuitNode, known: Mapping[str, str]) -> tuple[str, str]:
    """The row a node stands in, and its role: the summary's word for it, which is finer than the family's.

    A head that the summary does not name hands to the answer if it stands at the last position, else it writes; an induction
    head elsewhere than at the last position hands to other heads, which no state does.
    """
    role, last = known.get(node.name) or known.get(node.label) or node.role, node.position == circuit.positions[-1]
    if role == "head":
        return (_CARRIES if last else _WRITES), role
    if role == "induction head" and not last:
        return role, role
    return row_of(role) or "other parts", role or "other parts"
