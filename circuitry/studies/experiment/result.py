"""The result of the experiment: matched features of two models, their baseline and skylines, and the paper's statistics of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import CircuitryError
from ...html.shown import Shown
from ...store.files import slug, write_whole
from ...thresholds import FEATURES_INSIDE, NEAR_ZERO
from .measures import Floats, depth_distance, depth_map, difference, interval, near_zero, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARCHITECTURE, MODEL_SEED, SAE_SEED, NEURONS = "architecture", "model seed", "SAE seed", "neurons"
"""The four comparisons of the paper's figure 3. Further models are "architecture: NAME"."""


@dataclass(frozen=True)
class Compared:
    """One model's features matched with another's, in both directions.

    ``forward`` has a row for every feature of ``a``, ``reverse`` one for every feature of ``b``, with the columns of ``Matches``. In
    ``reverse``, too, ``layer_a`` is the layer of the row's own feature. ``depth_a`` and ``depth_b`` are the layers' depths, 0 to 1.
    """

    a: str
    b: str
    forward: pd.DataFrame
    reverse: pd.DataFrame
    depth_a: Floats
    depth_b: Floats

    @property
    def map(self) -> Floats:
        """[layer of b, layer of a]: shares of the best matches of each layer of ``a``."""
        return depth_map(self.forward, len(self.depth_a), len(self.depth_b))

    @property
    def reverse_map(self) -> Floats:
        """[layer of a, layer of b]: shares of the best matches of each layer of ``b``."""
        return depth_map(self.reverse, len(self.depth_b), len(self.depth_a))


@dataclass(frozen=True)
class Universality(Shown):
    """The paper's sections 4 and 5, measured on a pair of models. Made by ``circuitry.studies.experiment``.

    ``comparisons`` are by name: "architecture", "model seed", "SAE seed", "neurons", and "architecture: NAME" for further models.
    ``saes`` has a row for every autoencoder: its sparsity, the variance it explains, and the loss recovered by its reconstruction.
    ``scores`` has the scores of features, if a scorer was asked. ``record`` is the provenance of the run.
    """

    comparisons: Mapping[str, Compared]
    record: dict[str, Any]
    saes: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """A row for every comparison and direction: mean and median MPPC, share above .95, null, features compared, depth."""
        rows: list[dict[str, Any]] = []
        for name, pair in self.comparisons.items():
            directions = (
                (pair.a, pair.b, pair.forward, pair.depth_a, pair.depth_b),
                (pair.b, pair.a, pair.reverse, pair.depth_b, pair.depth_a),
            )
            for direction, (a, b, table, depth_a, depth_b) in zip(("forward", "reverse"), directions, strict=True):
                labels = {"comparison": name, "direction": direction, "features of": a, "matched in": b}
                apart, chance = depth_distance(table, depth_a, depth_b)
                rows.append({**labels, **summary(table), "depth apart": apart, "depth apart by chance": chance})
        return pd.DataFrame(rows)

    def differences(self, name: str = ARCHITECTURE) -> pd.DataFrame | None:
        """Each feature's MPPC in another architecture minus that in the seed variant; None if either comparison is missing."""
        if name not in self.comparisons or MODEL_SEED not in self.comparisons:
            return None
        return difference(self.comparisons[name].forward, self.comparisons[MODEL_SEED].forward)

    @functools.cached_property
    def marginal(self) -> pd.DataFrame:
        """A row for every other architecture: mean difference to the seed variant, its 90 % interval, its near-zero share."""
        rows = []
        for name, pair in self.comparisons.items():
            table = self.differences(name) if name.startswith(ARCHITECTURE) else None
            if table is not None:
                low, high = interval(table["difference"])
                share = near_zero(table["difference"])
                rows.append([name, pair.b, float(table["difference"].mean()), low, high, share, len(table)])
        columns = ["comparison", "model", "mean difference", "low", "high", f"within ±{NEAR_ZERO}", "features"]
        return pd.DataFrame(rows, columns=columns)

    def text(self) -> str:
        """The results, for a terminal."""
        lines = [f"features of {self.record['models'][0]} in other models"]
        for row in self.frame.to_dict("records"):
            if row["direction"] == "forward":
                null = f", {row['null']:.2f} by chance" if row["null"] == row["null"] else ""
                lines.append(
                    f"  {row['comparison'].partition(':')[0]:<13} {row['matched in']:<24} mean MPPC {row['mean']:.2f}{null}; "
                    f"{row['above .95']:.0%} above .95; {row['compared']} features, {row['left out']} fired too rarely"
                )
        for row in self.marginal.to_dict("records"):
            lines.append(
                f"  {row['model']} less the seed variant: {row['mean difference']:+.2f}; {FEATURES_INSIDE:.0%} of features {row['low']:+.2f} to "
                f"{row['high']:+.2f}; {row[f'within ±{NEAR_ZERO}']:.0%} within ±{NEAR_ZERO}"
            )
        return "\n".join([*lines, *self.record.get("notes", [])])

    def __repr__(self) -> str:
        return self.text()

    def figures(self) -> dict[str, Figure]:
        """The paper's figures by file name: 3, 8, 9, 10; 11 if a third model was compared, and 5 if features were scored."""
        from . import figures

        main = self.comparisons[ARCHITECTURE]
        four = {
            name: self.comparisons[name].forward
            for name in (NEURONS, ARCHITECTURE, MODEL_SEED, SAE_SEED)
            if name in self.comparisons
        }
        pairs = [
            (pair.a, pair.b, pair.forward, pair.reverse)
            for name, pair in self.comparisons.items()
            if name in (ARCHITECTURE, MODEL_SEED)
        ]
        drawn = {
            "figure3": figures.figure3(four, self.differences(), main.map, (main.a, main.b)),
            **self._figure5(four),
            "figure8": figures.figure8(main.forward, len(main.depth_a), main.a),
            "figure9": figures.figure9(pairs),
            "figure10": figures.figure10(main.reverse_map, (main.b, main.a)),
        }
        further = [name for name in self.comparisons if name.startswith(f"{ARCHITECTURE}: ")]
        for number, name in enumerate(further):
            third = self.comparisons[name]
            shown = {key: four[key] for key in (MODEL_SEED, SAE_SEED) if key in four} | {ARCHITECTURE: third.forward}
            suffix = "" if len(further) == 1 else f"-{number + 1}"
            drawn[f"figure11{suffix}"] = figures.figure3(shown, self.differences(name), third.map, (third.a, third.b))
        return drawn

    def _figure5(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
        """Figure 5 if features were scored, else nothing."""
        from ...features.dashboard.figure import figure5

        variants = {name: tables[name] for name in (SAE_SEED, MODEL_SEED, ARCHITECTURE) if name in tables}
        return {"figure5": figure5(variants, self.scores)} if len(self.scores) else {}

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write all tables (Parquet; summaries as CSV and Markdown), figures (PNG and SVG) and universality.html; returns the folder."""
        from ...drawing.figures import save
        from ...results.writing import write_frames
        from .page import write_page

        target = Path(folder)
        provenance = {}
        for number, (name, pair) in enumerate(self.comparisons.items()):
            file = f"{number}-{slug(name).lower()}"
            write_whole(target / "tables" / f"{file}-forward.parquet", pair.forward.to_parquet)
            write_whole(target / "tables" / f"{file}-reverse.parquet", pair.reverse.to_parquet)
            provenance[name] = {
                "file": file,
                "a": pair.a,
                "b": pair.b,
                "depth_a": pair.depth_a.tolist(),
                "depth_b": pair.depth_b.tolist(),
            }
        frames = {"summary": self.frame, "difference": self.marginal, "saes": self.saes, "scores": self.scores}
        write_frames(frames, target / "tables")
        write_whole(
            target / "universality.json", json.dumps({"record": self.record, "comparisons": provenance}, indent=1, default=str)
        )
        for name, figure in self.figures().items():
            for suffix in (".png", ".svg"):
                save(figure, target / "figures" / f"{name}{suffix}")
        write_page(self, target)
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Universality:
        """Read back what ``save`` wrote. Raises CircuitryError for another folder."""
        target = Path(folder)
        try:
            data = json.loads((target / "universality.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CircuitryError(
                f"{target} has no readable universality.json; `circuitry universality` makes such folders"
            ) from None
        tables = target / "tables"
        comparisons = {
            name: Compared(
                entry["a"],
                entry["b"],
                pd.read_parquet(tables / f"{entry['file']}-forward.parquet"),
                pd.read_parquet(tables / f"{entry['file']}-reverse.parquet"),
                np.array(entry["depth_a"]),
                np.array(entry["depth_b"]),
            )
            for name, entry in data["comparisons"].items()
        }
        extra = {name: tables / f"{name}.csv" for name in ("saes", "scores")}
        frames = {name: pd.read_csv(file) for name, file in extra.items() if file.exists()}
        return cls(comparisons, data["record"], **frames)
