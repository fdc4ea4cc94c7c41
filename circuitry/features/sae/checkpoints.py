"""The folder of a training: its settings, its last checkpoint, and finally its SAEs. It stays valid if the process is killed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ...store.files import write_whole
from ...store.resumable import Resumable

RECORD = "training.json"
_STEP = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class TrainingFolder:
    """``training.json`` says what is trained; ``checkpoint-STEP`` has a safetensors file for every SAE until training ends."""

    path: Path

    @property
    def work(self) -> Resumable:
        """The folder's record of the training.

        >>> TrainingFolder(Path("nowhere")).work.record() is None
        True
        """
        return Resumable(self.path, RECORD, "training")

    def open(self, identity: Mapping[str, Any]) -> int:
        """Make or reopen the folder; returns the number of steps done. Raises CircuitryError if it holds another training.

        >>> import tempfile
        >>> folder = TrainingFolder(Path(tempfile.mkdtemp()) / "run")
        >>> folder.open({"seed": 0}), folder.open({"seed": 0})
        (0, 0)
        """
        self.work.begin(identity, state="running")
        return max(self._steps(), default=0)

    def save(self, step: int, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Write a checkpoint, one file of tensors for each state."""

        def write(new: Path) -> None:
            new.mkdir()
            for number, state in enumerate(states):
                save_file({name: value.contiguous() for name, value in state.items()}, new / f"{number}.safetensors")

        write_whole(self.path / f"checkpoint-{step}", write)
        self._drop(step)  # only now: until the new folder has its name, the old checkpoint is the valid one

    def load(self, step: int) -> list[dict[str, Tensor]]:
        """The states of the checkpoint after ``step`` steps, in the order in which they were saved."""
        files = sorted((self.path / f"checkpoint-{step}").glob("*.safetensors"), key=lambda file: int(file.stem))
        return [load_file(file) for file in files]

    def finish(self, record: Mapping[str, Any]) -> None:
        """Record that the training is complete, then remove its checkpoints."""
        self.work.write(record)
        self._drop()

    def _drop(self, latest: int | None = None) -> None:
        """Remove all checkpoints except ``latest``; one that cannot be removed does no harm."""
        for step in self._steps():
            if step != latest:
                shutil.rmtree(self.path / f"checkpoint-{step}", ignore_errors=True)

    def _steps(self) -> list[int]:
        return [int(match[1]) for file in self.path.iterdir() if (match := _STEP.fullmatch(file.name))]
