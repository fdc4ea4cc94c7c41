"""What a method is asked: the attribution of which edges or nodes, at which positions, on which prompts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..models.instrumentation import INSTRUMENTATION
from ..models.model import Model
from ..paths.terms import LATENT, Term
from ..paths.values import Node
from ..planning.metrics import Metric
from ..progress import bar
from ..prompting.prompts import Prompts
from ..prompting.task import Task
from .positions import Labels
from .wiring import Edge, Wiring

if TYPE_CHECKING:
    from ..executing.open import ExecutorLike

LARGE = 20_000
"""Edges from which on a model is large; GPT-2 small has 32,491."""
Level = Literal["edge", "node", "latent"]
PLURAL = {"edge": "edges", "node": "nodes", "latent": "latents and errors"}
"""What is ranked at each level, in words."""
Item: TypeAlias = Edge | Node
Scores: TypeAlias = NDArray[np.float32]
"""[example, item, label]"""


@dataclass(frozen=True)
class Question:
    """``prompts`` are those of ``task``, exchanged if corrupted values are denoised; ``task`` and ``direction`` are for exact patches.

    ``memory`` bounds a batch, in bytes.
    """

    model: Model
    task: Task
    prompts: Prompts
    wiring: Wiring
    metric: Metric
    level: Level
    labels: Labels
    direction: Literal["noising", "denoising"] = "noising"
    executor: ExecutorLike = "suffix"
    memory: int = 1 << 29
    seed: int = 0
    progress: bool | None = None
    of: NDArray[np.int64] | None = None
    """Which of the task's examples these are; None: all."""
    terms: tuple[Node, ...] = ()
    """The latents and errors that the level "latent" is about."""

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The numbers of the prompts among the task's examples."""
        return np.arange(len(self.prompts)) if self.of is None else self.of

    def part(self, examples: NDArray[np.int64]) -> Question:
        """The same about some of the prompts."""
        definition = self.task.definition

        def make(*args: Any, **options: Any) -> Prompts:
            return definition.make(*args, **options).take(examples)

        task = replace(self.task, definition=replace(definition, make=make))
        return replace(
            self, task=task, prompts=self.prompts.take(examples), labels=self.labels.take(examples), of=self.numbers[examples]
        )

    def quiet(self) -> Question:
        """The same without progress bars, for a caller that shows one of its own."""
        executor = self.executor if isinstance(self.executor, str) else replace(self.executor, progress=False)
        return replace(self, progress=False, executor=executor)

    def bar(self, **options: Any) -> tqdm[Any]:
        """A progress bar, shown as the question says: by default in a terminal or a notebook."""
        return bar(show=self.progress, **options)

    @functools.cached_property
    def items(self) -> tuple[Item, ...]:
        """What has scores: all edges, all nodes that have a value of their own, or the chosen latents and errors."""
        every: dict[Level, tuple[Item, ...]] = {"edge": self.wiring.edges, "node": self.wiring.nodes, "latent": self.terms}
        return every[self.level]

    @functools.cached_property
    def ranked(self) -> NDArray[np.bool_]:
        """Which items are ranked [item]: all but the sum of a node's latents, whose parts are."""
        together = Term(LATENT)
        return np.array([isinstance(item, Edge) or item.term != together for item in self.items], bool)

    @property
    def is_large(self) -> bool:
        """Whether one run of a circuit takes seconds, so that fewer random circuits are run."""
        return len(self.wiring.edges) > LARGE

    def batches(self, rows: int, desc: str) -> Iterator[tuple[NDArray[np.int64], Prompts]]:
        """Examples and their prompts, as many at a time as memory allows if each takes so many ``rows`` with all activations kept."""
        size = max(1, min(16, self.memory // (rows * self._row_bytes)))
        starts = range(0, len(self.prompts), size)
        for start in self.bar(iterable=starts, desc=desc):
            examples = np.arange(start, min(start + size, len(self.prompts)))
            yield examples, self.prompts.take(examples)

    @property
    def _row_bytes(self) -> int:
        """Predicted memory of one row whose activations are all kept."""
        model, length = self.model, self.prompts.length
        # Autograd keeps about twice what a layer has at its peak, and every state, which other runs never have all at once.
        kept = 2 * model.bytes_per_row(length)
        if self.wiring.graph.by_role("state"):
            kinds = model.graph.architecture.instrumentation.values()
            kept += 2 * length * model.dtype.itemsize * max(INSTRUMENTATION[kind].values(model.hf.config, 1) for kind in kinds)
        return kept * max(1, model.graph.sizes["layer"])

    def empty(self) -> Scores:
        """Scores to fill in."""
        return np.zeros((len(self.prompts), len(self.items), len(self.labels)), np.float32)
