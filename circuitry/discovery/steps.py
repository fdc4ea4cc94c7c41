"""The finished steps of a discovery, in a folder, so that a killed one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..store.files import write_whole

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Steps:
    """Each step is made once and read from its file after that; without a ``folder`` it is made whenever it is asked for."""

    folder: Path | None = None

    def arrays(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """A step whose result is arrays by name.

        >>> import tempfile
        >>> steps = Steps(Path(tempfile.mkdtemp()))
        >>> _ = steps.arrays("a", lambda: {"x": np.ones(2)})
        >>> steps.arrays("a", lambda: 1 / 0)["x"].tolist()
        [1.0, 1.0]
        """
        if self.folder is None:
            return make()
        file = self.folder / f"{name}.npz"
        if not file.exists():
            made = make()
            write_whole(file, lambda new: _save(new, made))
        with np.load(file) as stored:
            return dict(stored)

    def data(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A step whose result is plain data.

        >>> Steps().data("a", lambda: {"x": 1})
        {'x': 1}
        """
        if self.folder is None:
            return make()
        file = self.folder / f"{name}.json"
        if not file.exists():
            write_whole(file, json.dumps(make()))
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return data


def _save(new: Path, made: Arrays) -> None:
    with new.open("wb") as file:  # given a path, numpy would add .npz to the name of the unfinished file
        np.savez(file, allow_pickle=False, **made)
