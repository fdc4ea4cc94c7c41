"""The terms of a node's value that an autoencoder gives names: x = Σ f_i d_i + b + error."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import CircuitryError, expected
from .positions import Axis, Index

LATENT, ERROR = "latent", "error"
TERMS = (LATENT, ERROR)


@dataclass(frozen=True)
class Term:
    """``latent`` with an index is one f_i d_i, without one the sum of all; ``error`` is what the autoencoder leaves unexplained.

    >>> str(Term("latent")[17]), str(Term("error"))
    ('latent[17]', 'error')
    """

    name: str
    index: Index | None = None

    def __post_init__(self) -> None:
        if self.name not in TERMS or (self.index is not None and self.name != LATENT):
            raise CircuitryError(f"expected latent[17], latent or error, got {self}")

    def __getitem__(self, index: object) -> Term:
        if self.name != LATENT:
            raise CircuitryError(f"{self.name!r} has no index; it is one term")
        if isinstance(index, tuple):
            raise CircuitryError(
                f"'latent' has one index, not {len(index)}; a set is written (resid[2].latent[5], resid[2].latent[9])"
            )
        return replace(self, index=check_index(index, LATENT, LATENT))

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"

    def covers(self, other: Term | None) -> bool:
        """Whether another term is this one, or one of these latents.

        >>> Term("latent").covers(Term("latent", 3)), Term("latent", 3).covers(Term("latent"))
        (True, False)
        """
        return other is not None and self.name == other.name and self.index in (None, other.index)

    @property
    def number(self) -> int | None:
        """The number of a single latent; None for all latents, the error, and an open axis.

        >>> Term("latent", 17).number
        17
        """
        return self.index if isinstance(self.index, int) else None


def check_index(index: object, name: str, example: str) -> Index:
    """The index of a node or term. Raises CircuitryError unless it is a number from 0 up or an axis.

    >>> check_index(3, "mlp", "layer")
    3
    """
    if isinstance(index, bool) or not isinstance(index, int | Axis):
        raise CircuitryError(expected(f"an index of {name!r} (a whole number or axis('{example}'))", index))
    if isinstance(index, int) and index < 0:
        raise CircuitryError(f"index {index} of {name!r}: indices count from 0 up")
    return index
