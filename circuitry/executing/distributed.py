"""The executor that divides another's batches among processes: each runs its part, and all of them get every result."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..errors import CircuitryError
from ..planning.metrics import Metric
from ..planning.values import Plan
from ..prompting.prompts import Prompts
from ..team import Team, present, team
from .effects import Effects
from .executor import ALONE, Cost, Executor

_TEAM: ContextVar[Team] = ContextVar("team", default=ALONE)


class Distributed:
    """Combines the results of a team's executors; ``inner`` is the one of this process, and runs its share of the batches.

    The number of processes does not decide what shares a batch, so every number is the same, bit for bit, as in one process
    with as many threads.

    >>> import circuitry as ct
    >>> from circuitry.executing.rows.executor import Rows
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Distributed(Rows(model, memory=1 << 28), Team()).run(plan, prompts, [ct.planning.METRICS["logit"]])[0].effect.shape
    (4, 2)
    """

    def __init__(self, inner: Executor, team: Team) -> None:
        self.inner, self.team = inner, team
        self.name, self.provenance = inner.name, inner.provenance  # whose numbers they are

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What all processes take together."""
        return self.inner.cost(plan, prompts, metrics, extra=extra)

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """The description by the inner executor, which is the same in every process."""
        return self.inner.described(plan, prompts)

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``), all of them in every process. An error in one process is raised in all."""
        mine, error = list[Effects](), None
        try:
            mine = self.inner.run(plan, prompts, metrics, extra=extra)
        except Exception as raised:
            error = raised
        parts = self.team.gathered((mine, None if error is None else _sendable(error)))
        if error is not None:
            raise error
        if elsewhere := next((remote for _, remote in parts if remote is not None), None):
            raise elsewhere
        return [_together(shares) for shares in zip(*(effects for effects, _ in parts), strict=True)]


def _sendable(error: Exception) -> Exception:
    """An error that another process can raise. Errors of other libraries may not survive being sent, so only their text is."""
    return error if isinstance(error, CircuitryError) else RuntimeError(f"{type(error).__name__} in another process: {error}")


def _together(parts: Sequence[Effects]) -> Effects:
    """The effects of all processes, each of which has NaN for the batches of the others."""
    stacked = [np.stack([getattr(part, name) for part in parts]) for name in ("effect", "base", "source")]
    return Effects(*(np.take_along_axis(all_, np.isnan(all_).argmin(0)[None], 0)[0] for all_ in stacked))


def current() -> Team:
    """The team of processes that share the work; a team of one outside of ``together``.

    >>> current().world_size
    1
    """
    return _TEAM.get()


@contextmanager
def together() -> Iterator[Team]:
    """Within this context, the processes that torchrun started share all patching. All must do the same, in the same order.

    A process that gets SIGTERM, which torchrun sends after another process has ended, prints that and is interrupted.

    >>> with together() as every:
    ...     print(every.world_size)
    1
    """
    with team() as started, present(started) as every:
        token = _TEAM.set(every)
        before = signal.signal(signal.SIGTERM, _stop) if every.world_size > 1 else None
        try:
            yield every
        finally:
            if every.world_size > 1:
                signal.signal(signal.SIGTERM, before)
            _TEAM.reset(token)


def _stop(*_: Any) -> None:
    print(f"stopped by SIGTERM: {_TEAM.get().ended()}", file=sys.stderr, flush=True)
    raise KeyboardInterrupt
