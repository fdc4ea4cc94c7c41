"""The folder of a training: what it is, its last checkpoint, and in the end its SAEs. A kill at any moment leaves it whole."""

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
    """``training.json`` says what is trained; ``checkpoint-STEP`` has a safetensors file for every SAE, until the end."""

    path: Path

    @property
    def work(self) -> Resumable:
        """What the folder says of itself.

        >>> TrainingFolder(Path("nowhere")).work.record() is None
        True
        """
        return Resumable(self.path, RECORD, "training")

    def open(self, identity: Mapping[str, Any]) -> int:
        """Make the folder or find it again; the number of steps done. Raises CircuitryError where it holds another training.

        >>> import tempfile
        >>> folder = TrainingFolder(Path(tempfile.mkdtemp()) / "run")
        >>> folder.open({"seed": 0}), folder.open({"seed": 0})
        (0, 0)
        """
        self.work.begin(identity, state="running")
        return max(self._steps(), default=0)

    def save(self, step: int, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Write a checkpoint, one file of tensors after another; it counts once its folder has its name."""

        def write(new: Path) -> None:
            new.mkdir()
            for number, state in enumerate(states):
                save_file({name: value.contiguous() for name, value in state.items()}, new / f"{number}.safetensors")

        write_whole(self.path / f"checkpoint-{step}", write)
        self._drop(step)

    def load(self, step: int) -> list[dict[str, Tensor]]:
        """The states of the checkpoint after ``step`` steps, in the order in which they were saved."""
        files = sorted((self.path / f"checkpoint-{step}").glob("*.safetensors"), key=lambda file: int(file.stem))
        return [load_file(file) for file in files]

    def finish(self, record: Mapping[str, Any]) -> None:
        """Say that the training is complete, then remove its checkpoints."""
        self.work.write(record)
        self._drop()

    def _drop(self, kept: int | None = None) -> None:
        """Remove checkpoints but one; what cannot be removed does no harm."""
        for step in self._steps():
            if step != kept:
                shutil.rmtree(self.path / f"checkpoint-{step}", ignore_errors=True)

    def _steps(self) -> list[int]:
        return [int(found[1]) for file in self.path.iterdir() if (found := _STEP.fullmatch(file.name))]
