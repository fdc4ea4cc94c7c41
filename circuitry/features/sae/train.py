"""Training SAEs: many nodes from one stream, each with its own optimizer, in one process or several."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ...autoencoders.sae import SAEConfig
from ...errors import CircuitryError, no_effect
from ...models.threads import on_threads
from ...paths.parse import parse_node
from ...paths.values import Node
from ...store.files import sweep
from ...team import Team, team
from .checkpoints import TrainingFolder
from .learner import Learner, seed_of
from .recipe import Recipe
from .source import Batch, Batches, Source, source
from .trained import COLUMNS, Trained

if TYPE_CHECKING:
    from ...models.model import Model
    from ..activations.corpus import Corpus
    from ..activations.stored import ActivationStore
    from ..activations.texts import Texts

BATCH, BUFFER, CONTEXT, SAVE_EVERY = 1024, 65536, 1024, 300.0
"""Defaults: tokens of a batch, of a buffer and of a document, and seconds between checkpoints."""
ALONE = Team()
"""Each SAE learns in one process."""
ASK = 16
"""Several processes agree every so many steps whether to write a checkpoint."""
REPORTS = 100
"""How many reports a training gives, in the bar and in the log."""


def train_sae(
    model: Model | ActivationStore | str | PathLike[str] | None,
    nodes: str | Node | Iterable[str | Node] | None = None,
    texts: Texts = None,
    *,
    corpus: Corpus | None = None,
    activations: Batches | None = None,
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    batch: int = BATCH,
    buffer: int = BUFFER,
    context: int = CONTEXT,
    save_every: float = SAVE_EVERY,
    progress: bool = True,
    **recipe: Any,
) -> Trained:
    """Train a sparse autoencoder on each node, all of them from one pass of the model over the text.

    ReLU with L1 as in appendix A of the paper, or topk. ``recipe`` takes every field of ``Recipe``, which gives each default and
    its reason. Weights are float32.

    Args:
        model, nodes, texts, corpus, context, batch, buffer, seed: as for ``circuitry.activations``; ``seed`` also seeds the
            weights. In place of model and text, activations that ``store`` wrote, or their folder.
        activations: in place of model and texts, a stream (any object with ``batches(start)``), or an iterable of tensors
            [token, width] of the one node named, or of dictionaries from nodes to tensors. An iterable is read from its
            beginning again when a training is resumed.
        out: the folder. Every ``save_every`` seconds a checkpoint is written there; the same call resumes a killed training and
            ends with the same bits (with the same number of threads). A complete training is read back.
        progress: show a bar with L0, explained variance and the share of dead features, means over nodes.

    Under ``torchrun`` each process trains some of the autoencoders and runs some of the passes of the model, whose values are
    exchanged; all of them return all autoencoders, which do not depend on the number of processes. Raises CircuitryError for unknown settings,
    batches that end before ``tokens``, and a folder with other settings; FileError for a folder that another training writes to,
    and for a disk that is full or cannot be written: the last checkpoint is then valid, and the same call resumes.

    >>> import torch
    >>> points = torch.randn(8, 64, 4, generator=torch.Generator().manual_seed(0))
    >>> saes = train_sae(None, "resid[0]", activations=points, tokens=512, features=16, progress=False)
    >>> saes["resid[0]"]
    SAE(resid[0] relu, 4 -> 16)
    """
    settings = Recipe.of(**recipe)
    if activations is not None:
        _check_stream(
            model=(model, None), texts=(texts, None), corpus=(corpus, None),
            batch=(batch, BATCH), buffer=(buffer, BUFFER), context=(context, CONTEXT),
        )  # fmt: skip
    if out is None and save_every != SAVE_EVERY:
        raise no_effect(
            "save_every", save_every, "checkpoints go to a folder, and there is none", "give out=, or leave save_every out"
        )
    with team() as crew:
        if activations is None:
            from ..activations.stored import opened
            from ..activations.stream import activations as collect

            stored = opened(model)
            if model is None or (nodes is None and stored is None):
                raise CircuitryError("name a model and its nodes, or give activations")
            given = stored is not None or corpus is not None
            text: dict[str, Any] = {"corpus": corpus} if given else {"tokens": settings.tokens}
            activations = collect(stored or model, nodes, texts, **text, context=context, batch=batch, buffer=buffer, seed=seed)
        training = _Training(settings, seed, source(activations, _named(nodes), crew), crew, save_every, progress)
        return training.run(TrainingFolder(Path(out)) if out is not None else None)


def _device(batch: Batch) -> torch.device:
    """Where a batch is; a process without a node has no tensor to tell."""
    return next((value.device for value in batch.values()), torch.device("cpu"))


def _complete(record: Mapping[str, Any] | None) -> bool:
    return record is not None and record["state"] == "complete"


def _check_stream(**given: tuple[Any, Any]) -> None:
    """Refuse settings of how to collect activations, (value, default), if the activations are given."""
    for name, (value, default) in given.items():
        if value is not None and value != default:
            shown = value if isinstance(value, int) else ...
            raise no_effect(name, shown, "the activations are given already", f"leave {name} out, or leave activations out")


def _named(nodes: str | Node | Iterable[str | Node] | None) -> list[Node]:
    several = [nodes] if isinstance(nodes, str | Node) else list(nodes or ())
    return [parse_node(node) if isinstance(node, str) else node for node in several]


@dataclass
class _Training:
    """One call of ``train_sae``."""

    recipe: Recipe
    seed: int
    source: Source
    team: Team
    save_every: float
    progress: bool
    rows: list[list[float]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.source.tokens

    @property
    def steps(self) -> int:
        return -(-self.recipe.tokens // self.tokens)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the weights depend on, except the machine."""
        return {
            "nodes": [str(node) for node in self.source.widths],
            "widths": list(self.source.widths.values()),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "batch": self.source.tokens,
            **self.source.identity,
        }

    def run(self, folder: TrainingFolder | None) -> Trained:
        """Train to the end, from the folder's last checkpoint if there is one; the first process holds the folder."""
        # Before the lock, which makes the folder: settings that do not fit leave nothing behind.
        configs = {node: self.recipe.config(width, {"node": str(node)}) for node, width in self.source.widths.items()}
        if folder is not None and _complete(folder.work.check(self.identity)):  # no lock: the disk may be read-only
            return Trained.load(folder.path)
        with folder.work.held() if folder is not None and self.team.rank == 0 else nullcontext():
            return self._run(folder, configs)

    def _run(self, folder: TrainingFolder | None, configs: dict[Node, SAEConfig]) -> Trained:
        done = self._open(folder)
        if folder is not None and done is None:
            return Trained.load(folder.path)
        stream = self.source.batches(done or 0)
        learners, stream = self._learners(configs, stream, folder, done or 0)
        self._go(learners, stream, folder, done or 0)
        return self._end(learners, folder)

    def _open(self, folder: TrainingFolder | None) -> int | None:
        """Steps done; None where the training is complete."""
        if folder is None:
            return 0
        if self.team.rank == 0:
            folder.open(self.identity)
            sweep(folder.path)
        self.team.wait()
        done = folder.open(self.identity)
        return None if _complete(folder.work.record()) else done

    def _learners(
        self, configs: dict[Node, SAEConfig], stream: Iterator[Batch], folder: TrainingFolder | None, done: int
    ) -> tuple[dict[Node, Learner], Iterator[Batch]]:
        """A learner for every node of this process, restored or new, and the stream with the batches read here put back in front."""
        first = 1 if done else -(-self.recipe.measured // self.tokens)  # one batch is enough to see the device
        head = list(itertools.islice(stream, min(first, self.steps - done)))
        if not head and done < self.steps:
            raise CircuitryError(f"the activations ended after {done * self.tokens} tokens")
        device = _device(head[0] if head else {})
        learners = {node: Learner(configs[node], self.recipe, seed_of(self.seed, node), device) for node in self.source.mine}
        if folder is not None and done:
            *states, log = folder.load(done)
            self.rows = log["rows"].tolist()
            for node, state in zip(configs, states, strict=True):
                if node in learners:
                    learners[node].restore(state)
        else:
            for node, learner in learners.items():
                learner.measure([batch[node] for batch in head], ALONE)
        return learners, itertools.chain(head, stream)

    def _go(self, learners: dict[Node, Learner], stream: Iterator[Batch], folder: TrainingFolder | None, done: int) -> None:
        """Take the remaining steps."""
        first, saved, interval = self.team.rank == 0, time.monotonic(), max(1, self.steps // REPORTS)
        with tqdm(total=self.steps * self.tokens, initial=done * self.tokens, desc="train SAEs", unit="token",
                  unit_scale=True, disable=not (self.progress and first), leave=False) as bar:  # fmt: skip
            for step in range(done, self.steps):
                if (batch := next(stream, None)) is None:
                    raise CircuitryError(f"the activations ended after {step * self.tokens} of {self.recipe.tokens} tokens")
                self._step(learners, batch, step)
                bar.update(self.tokens)
                if (step + 1) % interval == 0 or step + 1 == self.steps:
                    self._report(learners, step + 1, bar)
                if folder is not None and self._due(step, time.monotonic() - saved):
                    self._save(folder, learners, step + 1)
                    saved = time.monotonic()

    def _step(self, learners: dict[Node, Learner], batch: Batch, step: int) -> None:
        """Every SAE of this process learns from its part of the batch."""

        def learn(node: Node) -> None:
            learners[node].learn(batch[node], step, self.steps, ALONE)

        on_threads(learn, learners, _device(batch))

    def _due(self, step: int, seconds: float) -> bool:
        """Whether all processes write a checkpoint now, which the clock of the first one decides."""
        if self.team.world_size > 1 and step % ASK:
            return False
        return self.team.told(seconds >= self.save_every)

    def _save(self, folder: TrainingFolder, learners: dict[Node, Learner], steps: int) -> None:
        """Write a checkpoint; the first process gets the states of all others and writes them."""
        parts = self.team.collected({node: learner.tensors() for node, learner in learners.items()})
        if states := {node: state for part in parts for node, state in part.items()}:
            rows = {"rows": torch.tensor(self.rows, dtype=torch.float64).reshape(-1, 2 + len(COLUMNS))}
            folder.save(steps, [*(states[node] for node in self.source.widths), rows])

    def _report(self, learners: dict[Node, Learner], step: int, bar: Any) -> None:
        mine = {node: learner.report() for node, learner in learners.items()}
        by_node = {node: report for part in self.team.gathered(mine) for node, report in part.items()}
        reports = [by_node[node] for node in self.source.widths]
        for node, report in zip(self.source.widths, reports, strict=True):
            if not math.isfinite(report["loss"]):
                raise CircuitryError(f"the loss of {node} is not finite by step {step}; a lower lr, or clip=1.0, may help")
        self.rows += [[step, number, *(report[column] for column in COLUMNS)] for number, report in enumerate(reports)]
        mean = {column: sum(report[column] for report in reports) / len(reports) for column in COLUMNS}
        bar.set_postfix_str(f"L0 {mean['l0']:.1f}, EV {mean['explained_variance']:.3f}, dead {mean['dead']:.1%}", refresh=False)

    def _end(self, learners: dict[Node, Learner], folder: TrainingFolder | None) -> Trained:
        """The trained SAEs, written to files if there is a folder."""
        versions = self._versions()
        provenance = {**self.source.provenance, **self.identity, "versions": versions}
        for name in ("nodes", "widths"):  # of the whole run, not of one SAE
            del provenance[name]
        mine = {
            node: learner.result({"node": str(node), **provenance, "scale": float(learner.scale)})
            for node, learner in learners.items()
        }
        by_node = {node: sae for part in self.team.gathered(mine) for node, sae in part.items()}
        saes = {node: by_node[node] for node in self.source.widths}
        trained = Trained(saes, np.array(self.rows), self.tokens, folder.path if folder is not None else None)
        if folder is not None and self.team.rank == 0:
            trained.save(folder.path)
            folder.finish({"identity": self.identity, "state": "complete", "versions": versions})
        self.team.wait()
        return trained

    def _versions(self) -> dict[str, str]:
        """Versions of the libraries that computed the numbers; without a model, the model's libraries are not imported."""
        if "model" not in self.source.provenance:
            return {"torch": torch.__version__}
        from ...patching.provenance import versions

        return versions()
