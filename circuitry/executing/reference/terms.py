"""Terms in the reference: a value is taken apart into features and error, some are exchanged, and it is put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from ...paths.terms import Term
from .hooks import Edit, Key
from .naive.sae import error, features

Saes: TypeAlias = Mapping[Key, Any]


@dataclass(frozen=True)
class Exchange:
    """A term takes its value from that of its node in another run, ``other`` [example, pos, ...]; at positions [example], or at all.

    Of all latents, those with the numbers ``but`` do not.
    """

    term: Term
    other: Tensor
    positions: list[int] | None
    but: list[int] = field(default_factory=list)


def term_value(sae: Any, term: Term, value: Tensor) -> Tensor:
    """A term of values [example, pos, ...]: [example, pos], or [example, pos, F or D].

    >>> import torch
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> tuple(term_value(SAE(SAEConfig(6, 8)), Term("latent", 3), torch.rand(2, 5, 3, 2)).shape)
    (2, 5)
    """
    flat = value.reshape(*value.shape[:2], -1)
    if term.name == "error":
        return error(sae, flat)
    found = features(sae, flat)
    one: Tensor = found if term.number is None else found[..., term.number]
    return one


def exchanged(sae: Any, exchanges: list[Exchange]) -> Edit:
    """The edit of a node that makes all these exchanges, those of all latents before those of single ones.

    >>> import torch
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> ours, theirs = torch.rand(1, 3, 2), torch.rand(1, 3, 2)
    >>> edit = exchanged(SAE(SAEConfig(2, 6)), [Exchange(Term(name), theirs, [1]) for name in ("latent", "error")])
    >>> (edit(ours, None)[0] - theirs[0]).abs().lt(1e-6).all(1).tolist()
    [False, True, False]
    """

    def edit(value: Tensor, at: int | None) -> Tensor:
        x = (value if at is not None else value.transpose(0, 1)).clone()  # a state: [example, ...]; else [pos, example, ...]
        places = [at] if at is not None else range(len(x))
        for place in places:
            rows = x if at is not None else x[place]
            for example in range(len(rows)):
                mine = [e for e in exchanges if e.positions is None or e.positions[example] == place]
                if mine:
                    others = [(e.term, e.other[example, place].flatten(), e.but) for e in mine]
                    rows[example] = _one(sae, rows[example].flatten(), others).reshape(rows[example].shape)
        return x if at is not None else x.transpose(0, 1)

    return edit


def _one(sae: Any, x: Tensor, others: list[tuple[Term, Tensor, list[int]]]) -> Tensor:
    found, left = features(sae, x), error(sae, x)
    before = found @ sae.W_dec + left
    for term, other, but in sorted(others, key=lambda one: one[0].number is not None):
        if term.name == "error":
            left = error(sae, other)
        elif term.number is None:
            kept, found = found[but], features(sae, other)
            found[but] = kept
        else:
            found = found.clone()
            found[term.number] = features(sae, other)[term.number]
    new: Tensor = x.to(before.dtype) + found @ sae.W_dec + left - before
    return new.to(x.dtype)
