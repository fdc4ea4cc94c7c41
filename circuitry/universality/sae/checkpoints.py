"""The folder of a training: what it is, its last checkpoint, and in the end its SAEs. A kill at any moment leaves it whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import CircuitryError
from ...files import blank, differences, write_whole

RECORD = "training.json"
_STEP = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class TrainingFolder:
    """``training.json`` says what is trained; ``checkpoint-STEP`` has a safetensors file for every SAE, until the end."""

    path: Path

    def open(self, identity: Mapping[str, Any]) -> int:
        """Make the folder or find it again; the number of steps done. Raises CircuitryError where it is another training's.

        >>> import tempfile
        >>> folder = TrainingFolder(Path(tempfile.mkdtemp()) / "run")
        >>> folder.open({"seed": 0}), folder.open({"seed": 0})
        (0, 0)
        >>> folder.open({"seed": 1})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: .../run is another training's folder (seed: 0 there, 1 here); name another folder
        """
        if self.check(identity) is None:
            self.write({"identity": _plain(identity), "state": "running"})
        return max(self._steps(), default=0)

    def check(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record, or None of a new folder; nothing is written. Raises CircuitryError where it is another training's."""
        known, wanted = self.record(), _plain(identity)
        if known is None and not blank(self.path):
            raise CircuitryError(f"{self.path} is no training's folder, and not empty; name another folder")
        if known is not None and known["identity"] != wanted:
            told = differences(known["identity"], wanted)
            raise CircuitryError(f"{self.path} is another training's folder ({told}); name another folder")
        return known

    def record(self) -> dict[str, Any] | None:
        """What ``training.json`` says, or None where there is none.

        >>> TrainingFolder(Path("nowhere")).record() is None
        True
        """
        try:
            found = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and "identity" in found else None

    def write(self, record: Mapping[str, Any]) -> None:
        """Write ``training.json``, whole or not at all."""
        write_whole(self.path / RECORD, json.dumps(record, indent=1))

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
        self.write(record)
        self._drop()

    def _drop(self, kept: int | None = None) -> None:
        """Remove checkpoints but one; what cannot be removed does no harm."""
        for step in self._steps():
            if step != kept:
                shutil.rmtree(self.path / f"checkpoint-{step}", ignore_errors=True)

    def _steps(self) -> list[int]:
        return [int(found[1]) for file in self.path.iterdir() if (found := _STEP.fullmatch(file.name))]


def _plain(identity: Mapping[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(identity))
