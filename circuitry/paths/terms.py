"""The terms of a node's value that an autoencoder gives names: x = Σ f_i d_i + b + error."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CircuitryError

if TYPE_CHECKING:
    from .positions import Index

LATENT, ERROR = "latent", "error"
TERMS = (LATENT, ERROR)


@dataclass(frozen=True)
class Term:
    """``latent`` with an index is one f_i d_i, without one the sum of all; ``error`` is what the autoencoder leaves unexplained.

    >>> str(Term("latent", 17)), str(Term("error"))
    ('latent[17]', 'error')
    """

    name: str
    index: Index | None = None

    def __post_init__(self) -> None:
        if self.name not in TERMS or (self.index is not None and self.name != LATENT):
            raise CircuitryError(f"expected latent[17], latent or error, got {self}")

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"

    def covers(self, other: Term | None) -> bool:
        """Whether another term is this one, or one of these latents.

        >>> Term("latent").covers(Term("latent", 3)), Term("latent", 3).covers(Term("latent"))
        (True, False)
        """
        return other is not None and self.name == other.name and self.index in (None, other.index)

    def without(self, numbers: Collection[int]) -> Term:
        """All latents but some, as a leg freezes them that has these as its ends; a term without any number to leave out is itself.

        >>> Term("latent").without([3]).left_out, Term("latent").without([]) == Term("latent")
        ((3,), True)
        """
        return _Without(self.name, None, tuple(sorted(numbers))) if numbers else self

    @property
    def left_out(self) -> tuple[int, ...]:
        """The numbers that ``without`` left out.

        >>> Term("latent").left_out
        ()
        """
        return ()

    @property
    def number(self) -> int | None:
        """The number of a single latent; None for all latents, the error, and an open axis.

        >>> Term("latent", 17).number
        17
        """
        return self.index if isinstance(self.index, int) else None


@dataclass(frozen=True)
class _Without(Term):
    """All latents but some. No path names it, only the plan of one."""

    numbers: tuple[int, ...] = ()

    def covers(self, other: Term | None) -> bool:
        return super().covers(other) and other is not None and other.number not in self.numbers

    @property
    def left_out(self) -> tuple[int, ...]:
        return self.numbers
