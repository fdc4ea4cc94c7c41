"""The result of a training: SAEs by node, and the training's log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...autoencoders.sae import SAE
from ...errors import CircuitryError
from ...html.shown import Shown
from ...paths.parse import parse_node
from ...paths.values import Node
from ...store.files import slug, write_csv
from .checkpoints import TrainingFolder

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

COLUMNS = ("loss", "l0", "explained_variance", "dead")


class Trained(Shown, Mapping[Node, SAE]):
    """SAEs by node (or its text), as ``train_sae`` makes them and ``Trained.load`` reads them back.

    ``rows`` [report, 2 + columns] are the step, the number of the node, and ``COLUMNS``; ``folder`` is None if nothing was
    written.
    """

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_trained

        return of_trained(self)

    def __init__(self, saes: Mapping[Node, SAE], rows: NDArray[np.float64], tokens: int, folder: Path | None = None) -> None:
        self._saes, self._rows, self._tokens, self.folder = dict(saes), rows, tokens, folder

    def __getitem__(self, node: Node | str) -> SAE:
        key = parse_node(node) if isinstance(node, str) else node
        if key not in self._saes:
            raise KeyError(f"no SAE of {node} here; there are {', '.join(map(str, self._saes))}")
        return self._saes[key]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._saes)

    def __len__(self) -> int:
        return len(self._saes)

    def __repr__(self) -> str:
        return "\n".join(f"{node}: {sae!r}" for node, sae in self._saes.items())

    @property
    def log(self) -> pd.DataFrame:
        """A row for every report and node: step, tokens, node, and means since the previous report.

        ``loss``: the training loss of a token; ``l0``: features that fire at a token; ``explained_variance``: 1 - Σ‖x - x̂‖² /
        Σ‖x - mean‖²; ``dead``: the share of features that did not fire in the last ``dead_after`` tokens.
        """
        import pandas as pd

        nodes = [str(node) for node in self]
        table = pd.DataFrame(self._rows[:, 2:], columns=list(COLUMNS))
        table.insert(0, "node", [nodes[int(number)] for number in self._rows[:, 1]])
        table.insert(0, "tokens", (self._rows[:, 0] * self._tokens).astype(int))
        table.insert(0, "step", self._rows[:, 0].astype(int))
        return table

    @property
    def last(self) -> pd.DataFrame:
        """The last report, a row for every node."""
        return self.log.tail(len(self)).reset_index(drop=True)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write a folder for every SAE, in SAELens's layout, and ``log.csv``; returns the folder."""
        target = Path(folder)
        for node, sae in self._saes.items():
            sae.save(target / slug(node))
        write_csv(self.log, target / "log.csv", index=False)
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Trained:
        """Read the folder of a complete training. Raises CircuitryError if it holds none."""
        import pandas as pd

        record: dict[str, Any] = TrainingFolder(Path(folder)).work.record() or {}
        if record.get("state") != "complete":
            raise CircuitryError(f"{folder} holds no complete training; `circuitry sae train` makes such folders")
        nodes = [parse_node(text) for text in record["identity"]["nodes"]]
        log = pd.read_csv(Path(folder) / "log.csv")
        numbers = [[str(node) for node in nodes].index(text) for text in log["node"]]
        rows = np.column_stack([log["step"], numbers, log[list(COLUMNS)]]).astype(np.float64)
        saes = {node: SAE.load(Path(folder) / slug(node)) for node in nodes}
        return cls(saes, rows, int(log["tokens"].iloc[0] // log["step"].iloc[0]), Path(folder))
