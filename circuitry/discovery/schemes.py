"""How the runs between clean and corrupted are made: what is written at each place of a batch, and whose gradient is taken there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .rows import Point, Rows


@dataclass(frozen=True)
class Taken:
    """What one place has in a batch.

    ``written`` [row, ...] goes on through the model. The gradient at ``node`` is that of the place.
    ``between`` [point * example, ...] are the runs in between, from which the gradient goes back to what they were computed from.
    """

    written: Tensor
    node: Tensor
    between: Tensor


class Scheme(Protocol):
    """How the runs in between are made."""

    @property
    def points(self) -> tuple[Point, ...]:
        """Where the runs lie, at least one; the metric is averaged over them, by their weights."""
        ...

    def embedding(self, value: Tensor, rows: Rows) -> Taken:
        """At the token embedding."""
        ...

    def stream(self, value: Tensor, rows: Rows) -> Taken:
        """At the residual stream, before a block reads it."""
        ...

    def branch(self, value: Tensor, rows: Rows, number: int) -> Taken:
        """At the output of the block with this ``number``, before it is added to the stream."""
        ...

    def inside(self, value: Tensor, rows: Rows) -> Taken:
        """At any other node."""
        ...


@dataclass(frozen=True)
class OfInput:
    """Embeddings on the straight line from clean to corrupted, and everything after them computed from these.

    With the one point at 0 the gradient is that of the clean run.
    """

    points: tuple[Point, ...]

    def embedding(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.embedding``."""
        line = rows.line(value).detach().requires_grad_()
        return _passed(value, rows, line)

    def stream(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.stream``."""
        # A copy: the value is overwritten in place, and a view of it would follow.
        return _passed(value, rows, rows.between(value).clone())

    def branch(self, value: Tensor, rows: Rows, number: int) -> Taken:
        """``Scheme.branch``."""
        return self.inside(value, rows)

    def inside(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.inside``."""
        return _passed(value, rows, rows.between(value))


@dataclass(frozen=True)
class OfActivations(OfInput):
    """Only the output of the block ``number`` is on the straight line (-1: the embedding); everything else follows from it."""

    number: int

    def embedding(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.embedding``."""
        if self.number == -1:
            return super().embedding(value, rows)
        return _passed(value, rows, rows.between(value).detach().requires_grad_())

    def branch(self, value: Tensor, rows: Rows, number: int) -> Taken:
        """``Scheme.branch``."""
        if number != self.number:
            return self.inside(value, rows)
        return _passed(value, rows, rows.between(value) + rows.line(value.detach()) - rows.between(value).detach())


@dataclass(frozen=True)
class OfBlocks:
    """Every block is evaluated on the straight line from its own clean input to its own corrupted input.

    The clean run goes on as it was; its gradient through each block is the mean of the gradients along that line.
    """

    points: tuple[Point, ...]

    def embedding(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.embedding``."""
        clean = rows.clean(value).detach().requires_grad_()
        return Taken(torch.cat([clean, value[rows.examples :].detach()]), clean, rows.between(value))

    def stream(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.stream``."""
        # A copy: the stream goes on from it past the block, so its gradient is that of both ways.
        clean = rows.clean(value).clone()
        ends = torch.cat([clean, rows.corrupted(value)])
        line = rows.line(ends)
        return Taken(torch.cat([ends, line]), clean, line)

    def branch(self, value: Tensor, rows: Rows, number: int) -> Taken:
        """``Scheme.branch``."""
        between = rows.between(value)
        mean = rows.mean(between)
        clean = rows.clean(value).detach() + mean - mean.detach()
        return Taken(torch.cat([clean, value[rows.examples :].detach()]), clean, between)

    def inside(self, value: Tensor, rows: Rows) -> Taken:
        """``Scheme.inside``."""
        return _passed(value, rows, rows.between(value))


def _passed(value: Tensor, rows: Rows, between: Tensor) -> Taken:
    # A new tensor even where nothing changes: nodes that share one tensor would share one gradient.
    return Taken(torch.cat([value[: 2 * rows.examples], between]), between, between)
