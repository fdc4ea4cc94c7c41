"""The result of a sweep: trainings by name, their table and their figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import CircuitryError
from ...html.shown import Shown
from ...store.files import write_csv
from ...store.resumable import Resumable
from .evaluate import evaluate
from .trained import Trained

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from ...models.model import Model
    from ..activations.corpus import Corpus

RECORD, TABLE = "sweep.json", "sweep.csv"


class Sweep(Shown, Mapping[str, Trained]):
    """Trainings by name, such as "l1=2.0,seed=0", as ``sweep`` makes them and ``Sweep.load`` reads them back.

    ``frame`` has a row for every training and node: the settings that vary, then ``l0``, ``explained_variance`` and ``dead`` of
    the training's last report, or, if a test corpus was given, every column of ``evaluate`` on it except ``tokens``.
    """

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_sweep

        return of_sweep(self)

    def __init__(self, trained: Mapping[str, Trained], frame: pd.DataFrame, folder: Path) -> None:
        self._trained, self.frame, self.folder = dict(trained), frame, folder

    def __getitem__(self, name: str) -> Trained:
        if name not in self._trained:
            raise KeyError(f"no training {name!r} here; there are {', '.join(self._trained)}")
        return self._trained[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trained)

    def __len__(self) -> int:
        return len(self._trained)

    def __repr__(self) -> str:
        shown = self.frame.astype(object).where(self.frame.notna(), "")  # a setting that a kind does not use
        return shown.to_string(index=False, float_format=lambda value: f"{value:.3g}")

    def figure(self) -> Figure:
        """Explained variance by L0, and recovered cross-entropy by L0 if it was measured."""
        from .pareto import pareto

        return pareto(self.frame)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``sweep.csv``, ``sweep.svg`` and ``sweep.png``; returns the folder."""
        from ...drawing.figures import save

        target = Path(folder)
        write_csv(self.frame, target / TABLE, index=False)
        for suffix in ("svg", "png"):
            save(self.figure(), target / f"sweep.{suffix}")
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Sweep:
        """Read the folder of a complete sweep. Raises CircuitryError if it holds none."""
        record: dict[str, Any] = Resumable(Path(folder), RECORD, "sweep").record() or {}
        if record.get("state") != "complete":
            raise CircuitryError(f"{folder} holds no complete sweep; `circuitry sae sweep` makes such folders")
        names: dict[str, dict[str, Any]] = record["varied"]
        frame = pd.read_csv(Path(folder) / TABLE)
        varied = list(dict.fromkeys(setting for settings in names.values() for setting in settings))
        return cls({name: Trained.load(Path(folder) / name) for name in names}, _whole(frame, varied), Path(folder))


def table(
    trained: Mapping[str, Trained],
    varied: Mapping[str, Mapping[str, Any]],
    model: Model | None,
    test: Corpus | None,
    progress: bool,
) -> pd.DataFrame:
    """A row for every training and node: what varies, and what was measured.

    >>> import numpy as np
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.features.sae import SAE
    >>> from circuitry.paths import parse_node
    >>> one = Trained({parse_node("resid[0]"): SAE(SAEConfig(4, 8))}, np.array([[1, 0, 9.0, 3.0, 0.5, 0.0]]), 64)
    >>> table({"k=8": one}, {"k=8": {"k": 8}}, None, None, False).to_dict("records")
    [{'k': 8, 'node': 'resid[0]', 'l0': 3.0, 'explained_variance': 0.5, 'dead': 0.0}]
    """
    settings = list(dict.fromkeys(setting for values in varied.values() for setting in values))
    rows = [
        {**dict.fromkeys(settings), **varied[name], **row}
        for name, saes in trained.items()
        for row in _measured(saes, model, test, progress).to_dict("records")
    ]
    return _whole(pd.DataFrame(rows), settings)


def _measured(saes: Trained, model: Model | None, test: Corpus | None, progress: bool) -> pd.DataFrame:
    """A row for every node; an evaluation is written into the training's folder, so that a resumed sweep does not repeat it."""
    if model is None or test is None:
        return saes.last[["node", "l0", "explained_variance", "dead"]]
    file = saes.folder / "evaluation.csv" if saes.folder is not None else None
    if file is not None and file.exists():
        return pd.read_csv(file)
    frame = evaluate(model, saes, test, progress=progress).drop(columns="tokens")
    if file is not None:
        write_csv(frame, file, index=False)
    return frame


def _whole(frame: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """Whole numbers stay whole in a column in which some kinds have no value."""
    return frame.assign(**{name: frame[name].convert_dtypes() for name in settings})
