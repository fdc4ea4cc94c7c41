"""Executors by name, and their options. A new executor is one entry of ``EXECUTORS`` and the class it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from ..errors import CircuitryError, no_effect, suggest, whole
from ..models.model import Model
from ..team import Team
from .distributed import Distributed, current
from .executor import Executor
from .memory import parse_memory
from .reference.executor import Reference
from .rows.executor import Rows
from .suffix.executor import Suffix
from .verified import Verified

DEFAULT = "suffix"
"""The executor that runs a plan if none is named."""
MEMORY = "512MiB"
"""Bound for one batch, if none is given."""


class Opener(Protocol):
    """What makes an executor for a model: its class."""

    def __call__(self, model: Model, *, memory: int, progress: bool | None, team: Team) -> Executor: ...


EXECUTORS: dict[str, Opener] = {"suffix": Suffix, "rows": Rows, "reference": Reference}
_IDLE: dict[tuple[str, str], str] = {
    ("reference", "verify"): "executor 'reference' is what the others are compared with",
    ("reference", "memory"): "executor 'reference' runs one cell at a time, with all examples at once",
}
"""Options that would change nothing, by executor and option, with the reason."""


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor by name, with its bound of memory in bytes, how many cells to verify, and whether to show a bar."""

    name: str = DEFAULT
    memory: int = parse_memory(MEMORY)
    verify: int = 0
    progress: bool | None = None

    def __str__(self) -> str:
        """What decides the numbers, and so whether two runs are the same: neither memory nor progress."""
        return f"{self.name}, verify={self.verify}" if self.verify else self.name

    def unverified(self) -> ExecutorChoice:
        """The same without verification, for callers that check by themselves.

        >>> executor("rows", verify=3).unverified().verify
        0
        """
        return replace(self, verify=0)


ExecutorLike: TypeAlias = ExecutorChoice | str


def executor(
    name: str = DEFAULT, *, memory: float | str | None = None, verify: int = 0, progress: bool | None = None
) -> ExecutorChoice:
    """What executes the plan of an experiment, for ``executor=`` of ``circuitry.patch`` and everything else that patches.

    Args:
        name: "suffix" (patched runs are computed only where they can differ), "rows" (every one is a whole row of a batch) or
            "reference" (plain PyTorch hooks, one cell at a time, slow; in float32 at least).
        memory: bound for one batch, bytes or text such as "2GiB"; 512MiB by default.
        verify: check this many cells against the reference, on two examples each. For a model in half precision, both run
            a copy in float32, and the table says how far rounding moved these effects.
        progress: show a bar; by default where stderr is a terminal.

    Raises CircuitryError for an unknown name, and for an option that would have no effect.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> ct.patch(model, task, "h[2] @ B+1 -> logits", executor=ct.executor(verify=1), lint=False).provenance["verified"][:18]
    '1 of 1 cells agree'
    """
    if not isinstance(name, str) or name not in EXECUTORS:
        raise CircuitryError(f"no executor {name!r}; {suggest(str(name), EXECUTORS)}")
    for option, value in (("verify", whole("verify", verify)), ("memory", memory)):
        if value and (why := _IDLE.get((name, option))):
            raise no_effect(option, value, why, f"leave {option} out, or use executor={DEFAULT!r}")
    return ExecutorChoice(name, parse_memory(MEMORY if memory is None else memory), verify, progress)


def choice(what: ExecutorLike) -> ExecutorChoice:
    """An executor's choice by name; an ExecutorChoice is returned as it is.

    >>> choice("reference").name
    'reference'
    """
    return what if isinstance(what, ExecutorChoice) else executor(what)


def open_executor(what: ExecutorLike, model: Model) -> Executor:
    """The executor for a model. Processes that work ``together`` share its batches. Raises CircuitryError for an unknown name.

    >>> import circuitry as ct
    >>> open_executor("rows", ct.load("bundled:mamba")).name
    'rows'
    """
    chosen = choice(what)

    def opened(on: Model) -> Executor:
        inner = EXECUTORS[chosen.name](on, memory=chosen.memory, progress=chosen.progress, team=current())
        return Distributed(inner, current()) if current().world_size > 1 else inner

    return Verified(opened, model, chosen.verify) if chosen.verify else opened(model)
