"""The executor that shares another's batches among processes: each runs its part, and all of them have the whole."""

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
    """Puts together what the executors of a team run, of which ``inner`` is this process's and has its share.

    What shares a batch does not depend on how many processes there are, so every number is the same, bit for bit, as in one process
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
        """What the executor of each of them says."""
        return self.inner.described(plan, prompts)

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``), the whole of them in every process. What one process raises, all raise."""
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
    """An error as another process may raise it: one of ours as it is; of others, which may not survive being sent, what they say."""
    return error if isinstance(error, CircuitryError) else RuntimeError(f"{type(error).__name__} in another process: {error}")


def _together(parts: Sequence[Effects]) -> Effects:
    """What each process has filled in; the rest is NaN."""
    stacked = [np.stack([getattr(part, name) for part in parts]) for name in ("effect", "base", "source")]
    return Effects(*(np.take_along_axis(all_, np.isnan(all_).argmin(0)[None], 0)[0] for all_ in stacked))


def current() -> Team:
    """The processes that share the work here; one outside of ``together``.

    >>> current().world_size
    1
    """
    return _TEAM.get()


@contextmanager
def together() -> Iterator[Team]:
    """Within: the processes that torchrun has started share what is patched. All of them must do the same, in the same order.

    A process that is told to stop, as torchrun does where another has ended, says so and is interrupted.

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
    print(f"told to stop: {_TEAM.get().ended()}", file=sys.stderr, flush=True)
    raise KeyboardInterrupt
