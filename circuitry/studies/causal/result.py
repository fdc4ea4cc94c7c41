"""The result: the effects of matched features in two models, beside those of random pairs and of other seeds."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import CircuitryError
from ...html.shown import Shown
from ...results.writing import count, number, percent, span, write_frames
from ...store.files import write_whole
from ..experiment.result import ARCHITECTURE
from .compared import ALL, Compared, differing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM = "random pairs"
"""The comparison of features with others that fire about as often. The others are named as in the paper's figure 3."""
FILE = "causal.json"
_PAIRS, _PROMPTS = "pairs.parquet", "effects.parquet"


@dataclass(frozen=True)
class Causal(Shown):
    """Effects of one model's features and of their matches in others. Made by ``circuitry.universality.causal``.

    ``comparisons`` are by name: "architecture" (the two models), "random pairs", and those that were given as skylines. Pairs fire
    alike if their MPPC is above ``record["alike"]``. ``record`` is the provenance of the run.
    """

    comparisons: Mapping[str, Compared]
    record: dict[str, Any]

    @property
    def main(self) -> Compared:
        """The comparison of the two models."""
        return self.comparisons[ARCHITECTURE]

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """A row for every pair of every comparison, with the columns of ``Compared.table``."""
        tables = {name: compared.table(self.record["alike"]) for name, compared in self.comparisons.items()}
        return _stacked(tables)

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """A row for every comparison, bin of MPPC and measure: "Pearson", "Spearman" and "same sign", with both intervals.

        Random pairs are in the bin of the pair that they stand beside.
        """
        return _stacked({name: compared.agreement for name, compared in self.comparisons.items()})

    @functools.cached_property
    def differing(self) -> pd.DataFrame:
        """The pairs of the two models that fire alike and act differently, those with the largest difference first."""
        return differing(self.frame[self.frame["comparison"] == ARCHITECTURE].reset_index(drop=True))

    @property
    def alike(self) -> int:
        """How many pairs of the two models fire alike."""
        return int((self.main.pairs["mppc"] > self.record["alike"]).sum())

    def text(self) -> str:
        """The results, for a terminal."""
        record = self.record
        lines = [
            f"features of {self.main.a} on {record['task']['name']}, {count(record['prompts'], 'prompt')}, {record['intervention']}"
        ]
        for name, compared in self.comparisons.items():
            lines.append(f"  {name}, in {compared.b}")
            rows = compared.agreement
            for label in rows["bin"].unique():
                values = rows[rows["bin"] == label].set_index("measure")
                pearson = values.loc["Pearson"]
                lines.append(
                    f"    {'all pairs' if label == ALL else 'MPPC ' + label:<18} Pearson {number(pearson['value'])} "
                    f"({span(pearson['prompts_low'], pearson['prompts_high'])} over prompts, "
                    f"{span(pearson['features_low'], pearson['features_high'])} over features; ceiling {number(pearson['ceiling'])}), "
                    f"Spearman {number(values.loc['Spearman', 'value'])}, same sign {percent(values.loc['same sign', 'value'])}; "
                    f"{count(int(pearson['pairs']), 'pair')}"
                )
        return "\n".join([*lines, *self._different()])

    def _different(self) -> list[str]:
        alike = f"{count(self.alike, 'pair')} with an MPPC above {self.record['alike']:g}"
        lines = [f"  {len(self.differing)} of {alike} {'acts' if len(self.differing) == 1 else 'act'} differently"]
        for row in self.differing.head(10).to_dict("records"):
            lines.append(
                f"    {row['node_a']}.latent[{row['feature_a']}] {number(row['effect_a'])}, "
                f"{row['node_b']}.latent[{row['feature_b']}] {number(row['effect_b'])}: MPPC {number(row['mppc'])}"
            )
        return lines

    def __repr__(self) -> str:
        return self.text()

    def plot(self, style: str | None = None) -> Figure:
        """Figure 3 for causes: agreement by MPPC, the effects of pairs, and where pairs differ by layer."""
        from ...drawing.figures import plotted
        from .figure import draw

        return plotted(draw, self, None, style)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write tables (CSV and Markdown), effects by prompt (Parquet), the figure (PNG and SVG) and causal.html; returns the folder."""
        from ...drawing.figures import save
        from .page import write_page

        target = Path(folder)
        frames = {"pairs": self.frame, "agreement": self.agreement, "differing": self.differing}
        write_frames(frames, target / "tables")
        parts = {_PAIRS: {n: c.pairs for n, c in self.comparisons.items()}, _PROMPTS: {n: c.by_prompt() for n, c in self.comparisons.items()}}  # fmt: skip
        for name, frames_by_name in parts.items():
            write_whole(target / "tables" / name, functools.partial(_stacked(frames_by_name).to_parquet, index=False))
        names = {name: [compared.a, compared.b] for name, compared in self.comparisons.items()}
        write_whole(target / FILE, json.dumps({"record": self.record, "comparisons": names}, indent=1, default=str))
        figure = self.plot()
        for suffix in (".png", ".svg"):
            save(figure, target / "figures" / f"figure3-causes{suffix}")
        write_page(self, target)
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Causal:
        """Read back what ``save`` wrote. Raises CircuitryError for another folder."""
        target = Path(folder)
        try:
            data = json.loads((target / FILE).read_text(encoding="utf-8"))
            pairs, prompts = (pd.read_parquet(target / "tables" / name) for name in (_PAIRS, _PROMPTS))
        except (OSError, ValueError):
            raise CircuitryError(
                f"{target} has no readable {FILE} with its tables; circuitry.universality.causal writes them"
            ) from None
        own = [dict(list(frame.groupby("comparison"))) for frame in (pairs, prompts)]
        comparisons = {
            name: Compared.of(a, b, own[0][name].drop(columns="comparison"), own[1][name])
            for name, (a, b) in data["comparisons"].items()
        }
        return cls(comparisons, data["record"])


def _stacked(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other, with a first column that names the comparison."""
    named = [frame.assign(comparison=name)[["comparison", *frame]] for name, frame in frames.items()]
    return pd.concat(named, ignore_index=True)
