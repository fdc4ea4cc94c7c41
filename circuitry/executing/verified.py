"""An executor around another: the independent reference runs some of its cells again, and must get the same effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import GuardError
from ..models.model import Model
from ..planning.metrics import Metric
from ..planning.values import Plan
from ..prompting.prompts import Prompts
from .effects import Effects
from .executor import Cost, Executor
from .reference.executor import by_reference, check_comparable

_EXAMPLES = 2


class Verified:
    """Runs what ``opened`` makes for a model, and compares ``count`` cells spread over the table with the reference.

    In half precision, rounding makes two executors differ by more than a mistake might, so they are compared in float32. How far
    half precision moves an effect is reported beside it and is not an error.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> table = ct.patch(model, task, "h[2] @ B+1 -> logits", executor=ct.executor(verify=1))
    >>> table.provenance["verified"].startswith("1 of 1 cells agree")
    True
    """

    def __init__(self, opened: Callable[[Model], Executor], model: Model, count: int) -> None:
        self.inner, self.opened, self.model, self.count = opened(model), opened, model, count
        self.name = self.inner.name
        self.provenance: Mapping[str, str] = {}

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What ``run`` would take, without the verification. Raises CircuitryError for what the reference cannot verify."""
        check_comparable(plan)
        return self.inner.cost(plan, prompts, metrics, extra=extra)

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """The description by the verified executor, and what is verified."""
        cells = f"{min(self.count, len(plan.cells))} of {len(plan.cells)} cells"
        verified = f"{cells} again with the reference, on {min(_EXAMPLES, len(prompts))} examples"
        return {**self.inner.described(plan, prompts), "verified": verified}

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``). Raises GuardError if the reference gets others."""
        check_comparable(plan)
        effects = self.inner.run(plan, prompts, metrics, extra=extra)
        without_random = replace(plan, cells=plan.cells[: len(plan.cells) - extra])
        self.provenance = {**self.inner.provenance, "verified": self._compared(without_random, prompts, metrics, effects)}
        return effects

    def _compared(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], effects: Sequence[Effects]) -> str:
        """That the sampled cells agree, in words."""
        few, wide = prompts.take(slice(_EXAMPLES)), self.model.widened()
        picked = np.unique(np.linspace(0, len(plan.cells) - 1, self.count).astype(int))
        part = replace(plan, cells=tuple(plan.cells[k] for k in picked))
        ours = [by_metric.part(picked, len(few)) for by_metric in effects]
        compared = ours if wide is self.model else self.opened(wide).run(part, few, metrics)
        most = 0.0
        for got, expected in zip(compared, by_reference(wide, part, few, metrics), strict=True):
            error = _apart(got, expected)
            if not error <= (1e-8 if wide.dtype == torch.float64 else 5e-3):
                raise GuardError(
                    f"executor {self.name!r} and the reference differ by {error:.2g} (relative); no result is reported"
                )
            most = max(most, error)
        closely = f"within {most:.0e} (relative)" if most else "exactly"
        text = f"{len(picked)} of {len(plan.cells)} cells agree {closely} with the reference on {len(few)} examples"
        if wide is self.model:
            return text
        narrow = str(self.model.dtype).removeprefix("torch.")
        moved = max(_apart(rounded, exact) for rounded, exact in zip(ours, compared, strict=True))
        if not np.isfinite(moved):
            raise GuardError(f"in {narrow} some effects are not numbers, in float32 they are; no result is reported")
        return f"{text}, both in float32; {narrow} moves these effects by up to {moved:.1e} (relative)"


def _apart(first: Effects, second: Effects) -> float:
    """How far effects are apart, in units of the metric itself if that is more than 1."""
    return float(np.abs(first.effect - second.effect).max() / max(1.0, np.abs(first.base).max(), np.abs(first.source).max()))
