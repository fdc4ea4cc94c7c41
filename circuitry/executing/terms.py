"""Reading and writing the terms of a value x = Σ f_i d_i + b + error, for whatever rows or tokens an executor has.

A write changes only the terms it names. What they were is read from the value that the row has without the write, so several terms of
one value can be written in one run, in any order: all latents come before single ones, since a single one is the more exact name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..autoencoders.sae import SAE
from ..errors import CircuitryError
from ..models.packed import Ints
from ..paths.terms import ERROR, Term
from ..paths.values import Node
from ..planning.values import Write
from .copies import ALL, Copy

_AT_ONCE = 1 << 25
"""Most features of all tokens together that are in memory at once: 128 MiB in float32."""


@dataclass(frozen=True)
class TermWrite:
    """New values of a term at some slots: ``slots`` [n] are numbers among the values to write; either ``like`` has the values x [n, D] whose
    term is taken, or ``constant`` is the term itself: [], [n], or [..., F] or [..., D]."""

    term: Term
    slots: Tensor
    like: Tensor | None = None
    constant: Tensor | None = None


def term_of(sae: SAE, term: Term, x: Tensor) -> Tensor:
    """A term of values x [n, D]: of one latent its feature [n], of all latents the features [n, F], of the error [n, D].

    >>> from circuitry.autoencoders import SAEConfig
    >>> sae, x = SAE(SAEConfig(2, 6)), torch.ones(3, 2)
    >>> [tuple(term_of(sae, term, x).shape) for term in (Term("latent", 4), Term("latent"), Term("error"))]
    [(3,), (3, 6), (3, 2)]
    """
    if term.number is not None:
        return _one_each(sae, x, torch.full((len(x),), term.number, device=x.device))
    if term.name == ERROR:
        return x.to(sae.W_dec.dtype) - _in_parts(sae, x, lambda part: sae(part)[0])
    return _in_parts(sae, x, sae.encode)


def written(sae: SAE, x: Tensor, writes: Sequence[TermWrite]) -> Tensor:
    """The values x [slot, D] with these terms written.

    >>> from circuitry.autoencoders import SAEConfig
    >>> sae, x, at = SAE(SAEConfig(2, 6)), torch.rand(3, 2), torch.arange(3)
    >>> every = [TermWrite(Term(name), at, like=torch.ones(3, 2)) for name in ("latent", "error")]
    >>> bool(torch.allclose(written(sae, x, every), torch.ones(3, 2)))
    True
    """
    wide = x.to(sae.W_dec.dtype)
    change, origin = torch.zeros_like(wide), wide.clone()
    fixed: list[TermWrite] = []
    partly: list[TermWrite] = []
    for write in sorted(writes, key=lambda write: write.term.number is not None):
        new, slots = _new(sae, write), write.slots
        if write.term.number is not None:
            # Of a latent that a write of all latents leaves out, the value is still that of the row itself.
            own = [earlier.slots for earlier in partly if write.term.number in earlier.term.left_out]
            mine = origin.index_copy(0, at := torch.cat(own), wide[at]) if own else origin
            old = _one_each(sae, mine[slots], torch.full_like(slots, write.term.number))
            for earlier in fixed:
                old = _where_fixed(old, slots, earlier, write.term.number, len(x))
            change.index_add_(0, slots, (new - old)[:, None] * sae.W_dec[write.term.number])
        elif write.term.name == ERROR:
            change.index_add_(0, slots, new - term_of(sae, write.term, wide[slots]))
        else:
            change.index_add_(0, slots, new - _sum(sae, wide[slots], write.term))
            if write.like is None:
                fixed.append(write)
            else:
                origin[slots] = write.like.to(origin.dtype)
            partly.append(write)
    return (wide + change).to(x.dtype)


def _new(sae: SAE, write: TermWrite) -> Tensor:
    """What a write puts in place: a feature [n], or for all latents and the error their part of the value [n, D]."""
    count, latents = len(write.slots), write.term.name != ERROR and write.term.number is None
    if write.like is not None:
        if latents:
            return _sum(sae, write.like, write.term)
        return term_of(sae, write.term, write.like)
    if write.constant is None:
        raise CircuitryError(f"{write.term} is written with neither a value nor a constant")
    constant = write.constant.to(sae.W_dec)
    if write.term.number is not None:
        return constant.expand(count)
    wanted = sae.config.features if latents else sae.config.width
    full = constant.expand(count, wanted)
    return full @ sae.W_dec if latents else full


def _sum(sae: SAE, x: Tensor, term: Term) -> Tensor:
    """What all latents of a term add to values [n, D]."""

    def part(values: Tensor) -> Tensor:
        features = sae.encode(values)
        features[:, list(term.left_out)] = 0
        return features @ sae.W_dec

    return _in_parts(sae, x, part)


def _where_fixed(old: Tensor, slots: Tensor, fixed: TermWrite, number: int, count: int) -> Tensor:
    """One latent's values [n] at ``slots``, with those of a constant where all latents of the slot have been set to one."""
    at = torch.full((count,), -1, device=slots.device)
    at[fixed.slots] = torch.arange(len(fixed.slots), device=slots.device)
    constant = fixed.constant if fixed.constant is not None else old.new_zeros(())
    constant = constant.to(old)
    every = constant[..., number] if constant.dim() else constant
    chosen = every.expand(len(fixed.slots))[at[slots].clamp(min=0)]
    return torch.where(at[slots] >= 0, chosen, old)


def _one_each(sae: SAE, x: Tensor, latents: Tensor) -> Tensor:
    """A feature of each value [n]."""
    size = max(1, _AT_ONCE // sae.config.features)
    parts = zip(torch.split(x, size), torch.split(latents, size), strict=True)
    return torch.cat([sae.encode_at(*part) for part in parts]) if len(x) else x.new_zeros(0, dtype=sae.W_dec.dtype)


def _in_parts(sae: SAE, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of values [n, D] in parts of bounded memory."""
    return torch.cat([function(part) for part in torch.split(x.to(sae.W_dec.dtype), max(1, _AT_ONCE // sae.config.features))])


@dataclass(frozen=True)
class Spots:
    """Where one copy of a term goes: numbers [n] of rows and columns in a view [row, column, (head), ...], and where its value comes from.

    ``position`` [n] are the tokens, by which a constant that differs from token to token is looked up.
    """

    copy: Copy
    row: Ints
    column: Ints
    source: Ints
    position: Ints


def write_terms(
    saes: Mapping[Node, SAE], view: Tensor, before: Tensor, every: Sequence[Spots], constants: Mapping[Write, Tensor]
) -> None:
    """Write the terms that one leg writes or holds at one place, in place.

    ``view`` [row, column, (head), ...] has the values without them, ``before`` those that the model has computed, from which the
    terms of other rows are read.

    >>> from circuitry.autoencoders import SAEConfig
    >>> node, zero, one = Node("resid", (2,)), np.array([0]), np.array([1])
    >>> values = torch.rand(2, 1, 2)
    >>> copies = [Copy(zero, one, zero, zero - 1, 0, None, term) for term in (node.latent, node.error)]
    >>> view = values.clone()
    >>> write_terms({node: SAE(SAEConfig(2, 6))}, view, values, [Spots(copy, zero, zero, one, zero) for copy in copies], {})
    >>> bool(torch.allclose(view[0], values[1]))
    True
    """
    by_host: dict[Node, list[Spots]] = {}
    for spots in every:
        by_host.setdefault(_named(spots).host, []).append(spots)
    for host, some in by_host.items():
        unit = () if some[0].copy.unit[0] == ALL else (int(some[0].copy.unit[0]),)
        places = np.stack([np.concatenate([getattr(spots, name) for spots in some]) for name in ("row", "column")], 1)
        unique, inverse = np.unique(places, axis=0, return_inverse=True)
        numbers = np.split(inverse.ravel(), np.cumsum([len(spots.row) for spots in some])[:-1])
        row, column = (torch.from_numpy(np.ascontiguousarray(unique[:, k])).to(view.device) for k in (0, 1))
        x = view[(row, column, *unit)]
        writes = [
            _term_write(spots, torch.from_numpy(slots).to(view.device), before, unit, constants)
            for spots, slots in zip(some, numbers, strict=True)
        ]
        view[(row, column, *unit)] = written(saes[host], x.reshape(len(x), -1), writes).view_as(x)


def make_copies(copies: Sequence[Copy], whole: Callable[[Copy], None], terms: Callable[[Sequence[Copy]], None]) -> None:
    """Make the copies at one place in their order (``copies.joined``): whole values one by one, the terms of a leg together.

    >>> none = np.array([0])
    >>> seen = list[str]()
    >>> copies = [Copy(none, none, none, none, 0, None, term) for term in (None, Node("resid", (2,)).error, Node("resid", (2,)).latent)]
    >>> make_copies(copies, lambda copy: seen.append("whole"), lambda some: seen.append(f"{len(some)} terms"))
    >>> seen
    ['whole', '2 terms']
    """
    for (_, of_terms), group in groupby(copies, key=lambda copy: (copy.leg, copy.term is not None)):
        some = list(group)
        if of_terms:
            terms(some)
        else:
            for copy in some:
                whole(copy)


def _named(spots: Spots) -> Node:
    if spots.copy.term is None:
        raise CircuitryError("a copy of a whole value is not a term's")
    return spots.copy.term


def _term_write(
    spots: Spots, slots: Tensor, before: Tensor, unit: tuple[int, ...], constants: Mapping[Write, Tensor]
) -> TermWrite:
    term, copy = _named(spots).term, spots.copy
    if term is None:
        raise CircuitryError(f"{spots.copy.term} names no term")
    if copy.value is None:
        row = torch.from_numpy(np.ascontiguousarray(spots.source)).to(before.device)
        column = torch.from_numpy(np.ascontiguousarray(spots.column)).to(before.device)
        index: tuple[Any, ...] = (row, column, *unit)
        return TermWrite(term, slots, like=before[index].reshape(len(row), -1))
    constant = constants[copy.value].to(before.device)
    if copy.value.at is None and constant.dim():
        constant = constant[torch.from_numpy(np.ascontiguousarray(spots.position)).to(constant.device)]
    return TermWrite(term, slots, constant=constant)


def term_values(saes: Mapping[Node, SAE], node: Node, value: Tensor) -> Tensor:
    """A node's own value [row, position, ...], or if it names a term that term of it: [row, position], or [row, position, F or D].

    >>> from circuitry.autoencoders import SAEConfig
    >>> saes = {Node("resid", (2,)): SAE(SAEConfig(2, 6))}
    >>> tuple(term_values(saes, Node("resid", (2,)).latent[4], torch.ones(3, 5, 2)).shape)
    (3, 5)
    """
    if node.term is None:
        return value
    got = term_of(saes[node.host], node.term, value.reshape(value.shape[0] * value.shape[1], -1))
    return got.reshape(*value.shape[:2], *got.shape[1:])
