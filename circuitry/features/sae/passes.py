"""One pass over a stream of activations, on whose batches any number of trainings learn."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...autoencoders.sae import SAEConfig
from ...errors import CircuitryError
from ...models.threads import on_threads
from ...paths.values import Node
from ...progress import bar
from ...store.files import sweep
from ...team import Team
from .checkpoints import TrainingFolder
from .learner import Learner, seed_of
from .recipe import Recipe
from .source import Batch, Source
from .trained import COLUMNS, Trained

ASK = 16
"""Several processes agree every so many steps whether to write a checkpoint."""
REPORTS = 100
"""How many reports a training gives, in the bar and in the log."""


@dataclass
class Training:
    """One recipe with one seed, on every node of a stream: what one call of ``train_sae`` trains. ``folder`` gets the SAEs.

    Of several processes, each has the learners of some nodes.
    """

    recipe: Recipe
    seed: int
    source: Source
    team: Team
    folder: TrainingFolder | None
    learners: dict[Node, Learner] = field(default_factory=dict)
    rows: list[list[float]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.source.tokens

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return -(-self.recipe.tokens // self.tokens)

    @property
    def first(self) -> int:
        """How many batches the scale of the activations is measured on."""
        return min(-(-self.recipe.measured // self.tokens), self.steps)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the weights depend on, except the machine."""
        return {
            "nodes": [str(node) for node in self.source.widths],
            "widths": list(self.source.widths.values()),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "batch": self.source.tokens,
            **({"reads": {str(node): str(read) for node, (read, _) in self.source.read.items()}} if self.source.read else {}),
            **self.source.identity,
        }

    def _config(self, node: Node) -> SAEConfig:
        """What is trained for a node: its SAE, or the transcoder that predicts it, whose batches have both nodes' values."""
        width = self.source.widths[node]
        if node not in self.source.read:
            return self.recipe.config(width, {"node": str(node)})
        read, first = self.source.read[node]
        return self.recipe.config(first, {"node": str(read)}, str(node), width - first)

    def check(self) -> bool:
        """Whether the folder holds this training, complete. Raises CircuitryError if settings do not fit, or it holds anything else."""
        for node in self.source.widths:
            self._config(node)
        record = self.folder.work.check(self.identity) if self.folder is not None else None
        return record is not None and record["state"] == "complete"

    def make(self, device: torch.device) -> None:
        """Make a new learner for every node of this process."""
        for node in self.source.mine:
            self.learners[node] = Learner(self._config(node), self.recipe, seed_of(self.seed, node), device)

    def report(self, step: int) -> list[dict[str, float]]:
        """Add the means since the last report to the log, and return them. Raises CircuitryError for a loss that is not finite."""
        mine = {node: learner.report() for node, learner in self.learners.items()}
        by_node = {node: report for part in self.team.gathered(mine) for node, report in part.items()}
        reports = [by_node[node] for node in self.source.widths]
        for node, report in zip(self.source.widths, reports, strict=True):
            if not math.isfinite(report["loss"]):
                raise CircuitryError(f"the loss of {node} is not finite by step {step}; a lower lr, or a lower clip, may help")
        self.rows += [[step, number, *(report[column] for column in COLUMNS)] for number, report in enumerate(reports)]
        return reports

    def end(self) -> Trained:
        """The trained SAEs, written to files if there is a folder."""
        versions = self._versions()
        provenance = {**self.source.provenance, **self.identity, "versions": versions}
        for name in ("nodes", "widths", "reads"):  # of the whole run, not of one SAE
            provenance.pop(name, None)
        mine = {node: learner.result(provenance) for node, learner in self.learners.items()}
        by_node = {node: sae for part in self.team.gathered(mine) for node, sae in part.items()}
        saes = {node: by_node[node] for node in self.source.widths}
        trained = Trained(saes, np.array(self.rows), self.tokens, self.folder.path if self.folder is not None else None)
        if self.folder is not None and self.team.rank == 0:
            trained.save(self.folder.path)
            self.folder.finish({"identity": self.identity, "state": "complete", "versions": versions})
        return trained

    def _versions(self) -> dict[str, str]:
        """Versions of the libraries that computed the numbers; without a model, the model's libraries are not imported."""
        if "model" not in self.source.provenance:
            return {"torch": torch.__version__}
        from ...patching.provenance import versions

        return versions()


@dataclass
class Pass:
    """Trainings on the same batches. ``folder`` gets their checkpoints; ``identity`` is what is written there about them."""

    trainings: Sequence[Training]
    folder: TrainingFolder | None
    identity: Mapping[str, Any]
    save_every: float
    progress: bool

    def run(self) -> list[Trained]:
        """Train to the end, from the folder's last checkpoint if there is one; the first process holds the folder."""
        # Before the lock, which makes the folder: settings that do not fit leave nothing behind, and the disk may be read-only.
        if self._complete():
            return self._read_back()
        with self.folder.work.held() if self.folder is not None and self._team.rank == 0 else nullcontext():
            done = self._open()
            if self._complete():  # the last process that held the folder has ended it
                return self._read_back()
            self._go(self._begin(done), done)
            trained = [training.end() for training in self.trainings]
            self._team.wait()
            return trained

    def _complete(self) -> bool:
        complete = [training.check() for training in self.trainings]  # of all, so that a wrong folder is told now
        return all(complete)

    def _read_back(self) -> list[Trained]:
        return [Trained.load(training.folder.path) for training in self.trainings if training.folder is not None]

    @property
    def _team(self) -> Team:
        return self.trainings[0].team

    @property
    def _learners(self) -> dict[tuple[int, Node], Learner]:
        """This process's learners, by the number of the training and by node."""
        return {(k, node): learner for k, training in enumerate(self.trainings) for node, learner in training.learners.items()}

    @property
    def _every(self) -> list[tuple[int, Node]]:
        """The names of all processes' learners."""
        return [(k, node) for k, training in enumerate(self.trainings) for node in training.source.widths]

    def _open(self) -> int:
        """Steps done."""
        if self.folder is None:
            return 0
        if self._team.rank == 0:
            self.folder.open(self.identity)
            sweep(self.folder.path)
        self._team.wait()
        return self.folder.open(self.identity)

    def _begin(self, done: int) -> Iterator[Batch]:
        """Make all learners, new or restored; returns the stream with the batches read here put back in front."""
        stream = self.trainings[0].source.batches(done)
        most = max(training.steps for training in self.trainings)
        first = 1 if done else max(training.first for training in self.trainings)  # one batch is enough to see the device
        head = list(itertools.islice(stream, min(first, most - done)))
        if not head and done < most:
            raise CircuitryError(f"the activations ended after {done * self.trainings[0].tokens} tokens")
        device = _device(head[0] if head else {})
        for training in self.trainings:
            training.make(device)
            for node, learner in training.learners.items() if not done else ():
                learner.measure([batch[node] for batch in head[: training.first]])
        if self.folder is not None and done:
            self._restore(self.folder.load(done))
        return itertools.chain(head, stream)

    def _restore(self, states: list[dict[str, Tensor]]) -> None:
        logs = states[len(states) - len(self.trainings) :]
        learners = self._learners
        for name, state in zip(self._every, states[: -len(logs)], strict=True):
            if name in learners:
                learners[name].restore(state)
        for training, log in zip(self.trainings, logs, strict=True):
            training.rows = log["rows"].tolist()

    def _go(self, stream: Iterator[Batch], done: int) -> None:
        """Take the remaining steps."""
        first, saved, tokens = self._team.rank == 0, time.monotonic(), self.trainings[0].tokens
        steps = max(training.steps for training in self.trainings)
        shown = None if self.progress and first else False
        with bar(
            total=steps * tokens, initial=done * tokens, desc="train SAEs", unit="token", unit_scale=True, show=shown
        ) as progress:
            for step in range(done, steps):
                if (batch := next(stream, None)) is None:
                    wanted = max(training.recipe.tokens for training in self.trainings)
                    raise CircuitryError(f"the activations ended after {step * tokens} of {wanted} tokens")
                self._step(batch, step)
                progress.update(tokens)
                self._report(step + 1, progress)
                if self.folder is not None and self._due(step, time.monotonic() - saved):
                    self._save(self.folder, step + 1)
                    saved = time.monotonic()

    def _step(self, batch: Batch, step: int) -> None:
        """Every SAE of this process learns from its part of the batch."""
        work = [(training, node) for training in self.trainings if step < training.steps for node in training.learners]

        def learn(item: tuple[Training, Node]) -> None:
            training, node = item
            training.learners[node].learn(batch[node], step, training.steps)

        on_threads(learn, work, _device(batch))

    def _due(self, step: int, seconds: float) -> bool:
        """Whether all processes write a checkpoint now, which the clock of the first one decides."""
        if self._team.world_size > 1 and step % ASK:
            return False
        return self._team.told(seconds >= self.save_every)

    def _report(self, step: int, progress: Any) -> None:
        reports = [
            report
            for training in self.trainings
            if step == training.steps or (step < training.steps and step % max(1, training.steps // REPORTS) == 0)
            for report in training.report(step)
        ]
        if reports:
            mean = {column: sum(report[column] for report in reports) / len(reports) for column in COLUMNS}
            text = f"L0 {mean['l0']:.1f}, EV {mean['explained_variance']:.3f}, dead {mean['dead']:.1%}"
            progress.set_postfix_str(text, refresh=False)

    def _save(self, folder: TrainingFolder, step: int) -> None:
        """Write a checkpoint; the first process gets the states of all others and writes them."""
        width = 2 + len(COLUMNS)
        parts = self._team.collected({name: learner.tensors() for name, learner in self._learners.items()})
        if states := {name: state for part in parts for name, state in part.items()}:
            logs = [{"rows": torch.tensor(training.rows, dtype=torch.float64).reshape(-1, width)} for training in self.trainings]
            folder.save(step, [*(states[name] for name in self._every), *logs])


def _device(batch: Batch) -> torch.device:
    """Where a batch is; a process without a node has no tensor to tell."""
    return next((value.device for value in batch.values()), torch.device("cpu"))
