"""The independent reference: one path, one cell, pass after pass in plain PyTorch hooks, everything stored, nothing clever.

It shares no code with the planner or the nnsight driver: it reads the path itself, finds modules itself (``hooks``), computes attention and
recurrences itself (``naive``), token by token, and freezes a node by overwriting every one of its stored values. For tests and
for ``verify=``; slow on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...errors import CircuitryError
from ...paths.positions import Position
from ...paths.values import Leg, Node, Path, Site
from .hooks import Edit, Key, Reference, Values, unedited
from .terms import Exchange, Saes, exchanged, term_value

Where: TypeAlias = Mapping[str, list[int]]
"""Absolute token position of every named position, one number an example."""
Reading: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""A target's value in the base run, the source run and the patched run."""
Unpatched: TypeAlias = Callable[[Reference, Tensor], Values]
"""What a reference records of token ids when nothing is edited."""


def run_anew(reference: Reference, ids: Tensor) -> Values:
    """Run them.

    >>> import circuitry as ct
    >>> values = run_anew(Reference(ct.load("bundled:mamba").hf), torch.arange(3)[None])
    >>> tuple(values["logits", (), ""].shape)
    (1, 3, 2048)
    """
    return reference.run(ids, {})


def remembering() -> Unpatched:
    """Run the same token ids once: for many paths on the same prompts, while the model does not change.

    >>> import circuitry as ct
    >>> run, reference = remembering(), Reference(ct.load("bundled:mamba").hf)
    >>> first, again = (run(reference, torch.arange(3)[None]) for _ in range(2))
    >>> first["logits", (), ""] is again["logits", (), ""]
    True
    """
    kept = dict[tuple[bytes, torch.Size], Values]()

    def run(reference: Reference, ids: Tensor) -> Values:
        key = ids.cpu().numpy().tobytes(), ids.shape
        if key not in kept:
            kept[key] = reference.run(ids, {})
        return dict(kept[key])

    return run


def follow(
    hf: Any,
    path: Path,
    base: Tensor,
    source: Tensor,
    where: Where,
    saes: Saes | None = None,
    unpatched: Unpatched = run_anew,
) -> Reading:
    """Follow one path without open axes to its first target; arguments and returned values are those of ``follow_all``.

    >>> import circuitry as ct
    >>> model, ids = ct.load("bundled:mamba"), torch.arange(6)[None] + 300
    >>> base, source, patched = follow(model.hf, ct.parse("embed -> logits"), ids, ids + 1, {"END": [5]})
    >>> bool(torch.allclose(source, patched))
    True
    """
    return follow_all(hf, path, base, source, where, saes, unpatched)[0][1]


def follow_all(
    hf: Any,
    path: Path,
    base: Tensor,
    source: Tensor,
    where: Where,
    saes: Saes | None = None,
    unpatched: Unpatched = run_anew,
) -> list[tuple[Site, Reading]]:
    """Follow one path without open axes; ``base`` and ``source`` are token ids [example, pos]; ``saes`` are autoencoders by node.
    ``unpatched`` makes the base and the source run.

    Returns for each last target (a whole layer as its nodes) the site and its values in the base run, the source run and the patched
    run: [example, ...] at the target's position, [example, pos, ...] if it has none; the logits at END if none is named. Raises
    CircuitryError for a node that the reference does not record.

    >>> import circuitry as ct
    >>> model, ids = ct.load("bundled:mamba"), torch.arange(6)[None] + 300
    >>> readings = follow_all(model.hf, ct.parse("embed -> (gate[0], logits)"), ids, ids + 1, {"END": [5]})
    >>> [tuple(patched.shape) for _, (_, _, patched) in readings]
    [(1, 6, 256), (1, 2048)]
    """
    reference = Reference(hf)
    clean, corrupted = unpatched(reference, base), unpatched(reference, source)
    path = _spelled_out(path, reference.names.short, clean)
    values, sources = corrupted, path.sources
    for leg in path.legs:
        edits = _holds(leg, sources, clean, reference.names.writers)
        for site in (site for site in sources if site.node.term is None):
            key = _key(site.node)
            edits[key] = _then(edits.get(key), _write(_recorded(values, site.node), _positions(site.at, where, len(base))))
        exchanges = _exchanges(leg, sources, clean, values, where, saes or {})
        for key, some in exchanges.items():
            edits[key] = _then(edits.get(key), exchanged((saes or {})[key], some))
        values = reference.run(base, edits)
        sources = leg.targets
    readings: list[tuple[Site, Reading]] = []
    for end in sources:
        at = _positions(_place(end), where, len(base))
        first, second, patched = (_read(_seen(v, end.node, saes or {}), at) for v in (clean, corrupted, values))
        readings.append((end, (first, second, patched)))
    return readings


def distances(readings: list[tuple[Site, Reading]], tokens: list[int]) -> tuple[Tensor, Tensor]:
    """L2 distance [example] of the source run and of the patched run from the base run, over all last targets together.

    Of a target at every position only an example's own ``tokens`` count, not its padding.

    >>> import circuitry as ct
    >>> ones, site = torch.ones(1, 3, 2), ct.parse("embed -> gate[0]").legs[0].targets[0]
    >>> [squared.tolist() for squared in distances([(site, (0 * ones, ones, 3 * ones))], [2])]
    [[2.0], [6.0]]
    """
    totals = []
    for run in (1, 2):
        squares = torch.zeros(len(tokens), dtype=torch.float64)
        for end, values in readings:
            for example, count in enumerate(tokens):
                change = values[run][example].double() - values[0][example].double()
                squares[example] += (change[:count] if _place(end) is None else change).pow(2).sum().cpu()
        totals.append(squares.sqrt())
    return totals[0], totals[1]


def _place(end: Site) -> Position | None:
    """Where a target is read: the logits at END if the path does not say."""
    return Position("END") if end.at is None and end.node.family == "logits" else end.at


def _seen(values: Values, node: Node, saes: Saes) -> Tensor:
    """A target's value; a term's is that of its node before any term of it was exchanged."""
    if node.term is None:
        return _recorded(values, node)
    return term_value(saes[_key(node)], node.term, _before(values, _key(node)))


def _before(values: Values, key: Key) -> Tensor:
    """A node's value before any term of it was exchanged."""
    return values.get(unedited(key), values[key])


def _exchanges(
    leg: Leg, sources: tuple[Site, ...], clean: Values, values: Values, where: Where, saes: Saes
) -> dict[Key, list[Exchange]]:
    """The terms that a leg holds at their clean value or takes from the run before, by node."""
    found: dict[Key, list[Exchange]] = {}
    ends = [(_key(site.node), site.node.term) for site in (*sources, *leg.targets)]
    exempt = [(_key(name), name.term) for name in leg.exempt]
    singles = [(key, term.number) for key, term in (*ends, *exempt) if term is not None and term.number is not None]
    for name in (name for name in leg.frozen if name.term is not None):
        for key in (key for key in saes if _covers(_key(name), key, exact_port=True) and (key, name.term) not in ends):
            free = any(_covers(k, key, exact_port=False) and (t is None or t.covers(name.term)) for k, t in exempt)
            if name.term is not None and not free:
                but = [number for k, number in singles if _covers(k, key, exact_port=True)]
                found.setdefault(key, []).append(Exchange(name.term, clean[key], None, but if name.term.number is None else []))
    for site in sources:
        if site.node.term is not None:
            at = _positions(site.at, where, len(next(iter(clean.values()))))
            found.setdefault(_key(site.node), []).append(Exchange(site.node.term, _before(values, _key(site.node)), at))
    return found


def _recorded(values: Values, node: Node) -> Tensor:
    if (key := _key(node)) not in values:
        raise CircuitryError(f"the reference does not record {node}; another executor without verify= measures it")
    return values[key]


def _spelled_out(path: Path, short: Mapping[str, str], values: Values) -> Path:
    """The path with every short name replaced by the node's full one, and ends that name a whole layer by all nodes in it."""

    def full(node: Node) -> Node:
        return replace(node, family=short.get(node.family, node.family))

    def sites(members: tuple[Site, ...]) -> tuple[Site, ...]:
        named = [replace(site, node=full(site.node)) for site in members]
        return tuple(replace(site, node=replace(site.node, indices=at)) for site in named for at in every(site.node))

    def every(node: Node) -> list[tuple[int, ...]]:
        family, indices, port = _key(node)
        return [at for f, at, p in values if (f, p) == (family, port) and at[: len(indices)] == indices]

    def spelled(leg: Leg) -> Leg:
        return replace(leg, targets=sites(leg.targets), frozen=tuple(map(full, leg.frozen)), exempt=tuple(map(full, leg.exempt)))

    return replace(path, sources=sites(path.sources), legs=tuple(map(spelled, path.legs)))


def _key(node: Node) -> Key:
    if not all(isinstance(i, int) for i in node.indices):
        raise CircuitryError(f"{node} has an open axis; the reference runs one cell at a time")
    port = "" if node.port in (None, "z") else str(node.port)
    return node.family, tuple(int(i) for i in node.indices if isinstance(i, int)), port


def _positions(at: Position | None, where: Where, examples: int) -> list[int] | None:
    if at is None:
        return None
    return [at.base] * examples if isinstance(at.base, int) else [int(p) + at.offset for p in where[str(at.base)]]


def _holds(leg: Leg, sources: tuple[Site, ...], clean: Values, writers: Sequence[str]) -> dict[Key, Edit]:
    """Overwrite every value of a frozen node by its clean one.

    A name without a port leaves out the leg's own two ends; a name with a port leaves out only an end that is that port.
    """
    ends = [_key(s.node) for s in (*sources, *leg.targets)]
    frozen = set()
    for name in (name for name in leg.frozen if name.term is None):
        live_ends = [end if name.port else end[:2] for end in ends]
        frozen |= {
            key for key in clean if _covers(_key(name), key, exact_port=True) and (key if name.port else key[:2]) not in live_ends
        }
    if leg.directly:
        free = {(w, s.node.indices[:1]) for s in sources for w in _own_writers(_key(s.node)[0], writers)} | {
            end[:2] for end in ends
        }
        frozen |= {key for key in clean if key[0] in writers and key[:2] not in free}
    return {
        key: _hold(clean[key])
        for key in frozen
        if not any(n.term is None and _covers(_key(n), key, exact_port=False) for n in leg.exempt)
    }


def _covers(pattern: Key, key: Key, exact_port: bool) -> bool:
    same = pattern[0] == key[0] and pattern[1] == key[1][: len(pattern[1])]
    return same and (pattern[2] == key[2] or (not exact_port and not pattern[2]))


def _own_writers(family: str, writers: Sequence[str]) -> Sequence[str]:
    """The block through which a node's own effect enters the stream."""
    if family in ("embed", "resid", "resid_mid"):
        return ()
    own = {"head": "attn", "attn": "attn", "experts": "experts"}.get(
        family, "mlp" if family.startswith(("mlp", "router")) else "mixer_out"
    )
    return (own,) if own in writers else writers


def _hold(clean: Tensor) -> Edit:
    return lambda _, at: clean if at is None else clean[:, at]


def _write(new: Tensor, positions: list[int] | None) -> Edit:
    """Take the new values at the positions, one an example, or everywhere."""

    def edit(value: Tensor, at: int | None) -> Tensor:
        if positions is None:
            return new if at is None else new[:, at]
        for example, position in enumerate(positions):
            if at is None:
                value[example, position] = new[example, position]
            elif at == position:
                value[example] = new[example, at]
        return value

    return edit


def _then(first: Edit | None, second: Edit) -> Edit:
    """Both edits: a set of sites may name one node at several positions."""
    return second if first is None else lambda value, at: second(first(value, at), at)


def _read(value: Tensor, positions: list[int] | None) -> Tensor:
    return value if positions is None else torch.stack([value[e, p] for e, p in enumerate(positions)])
