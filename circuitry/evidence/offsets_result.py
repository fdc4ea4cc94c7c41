"""The result of the off-by-one detector: verdicts, shares with intervals, and a count over models. Reading it needs no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from ..errors import CircuitryError
from ..html.shown import Shown
from ..results.recorded import facts, way
from ..results.table import PatchingTable
from ..store.files import write_whole
from ..thresholds import CARRIES
from .write_profile import position_name

if TYPE_CHECKING:
    from markupsafe import Markup

NUMBERS = ("effect", "share", "low", "high", "q")


@dataclass(frozen=True)
class Verdict:
    """Where one model, or one layer of it, writes the token.

    ``layer`` is a number, or "all" for the model. ``kind``: "on the token", "off by one", "off by 2" ..., "several", "none", or
    "undecided". ``at``: the offsets that carry the token; ``open``: those for which the examples do not decide; ``peak``: the
    confidence set of the strongest offset, likeliest first; ``centre``: the mean offset with its interval; ``weight``: the
    layer's part of the model's profile.
    """

    model: str
    architecture: str
    layer: int | str
    kind: str
    at: tuple[int, ...]
    open: tuple[int, ...]
    peak: tuple[int, ...]
    centre: tuple[float, ...]
    weight: float
    text: str


@dataclass
class Offsets(Shown):
    """The result of ``off_by_one``.

    ``frame`` has a row for every model, layer (and "all") and offset: ``effect`` as a fraction of the whole effect, with the
    false discovery rate ``q``, and the ``share`` of the layer's (or model's) profile with its interval ``low`` to ``high``, NaN
    if nothing is written. ``verdicts`` has one for every model and each of its layers, ``tables`` the effects by model.
    """

    token: str
    frame: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    tables: dict[str, PatchingTable]
    provenance: dict[str, Any] = field(default_factory=dict)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_offsets

        return of_offsets(self)

    def __repr__(self) -> str:
        return self.text()

    @property
    def models(self) -> tuple[Verdict, ...]:
        """The verdicts on whole models, in the order given.

        >>> Offsets("B", pd.DataFrame(), (Verdict("m", "mamba", 0, "none", (), (), (), (), 0.0, ""),), {}).models
        ()
        """
        return tuple(v for v in self.verdicts if v.layer == "all")

    def text(self) -> str:
        """A sentence for each model, and if there are several models, one for each architecture.

        >>> print(Offsets("B", pd.DataFrame(), (Verdict("m", "mamba", "all", "none", (), (), (), (), 0.0, "m: none"),), {}).text())
        m: none
        """
        return "\n".join([*(v.text for v in self.models), *(self.pooled() if len(self.models) > 1 else [])])

    def pooled(self) -> list[str]:
        """For each architecture, how many of its models write the token at each position.

        >>> one, two = (Verdict(m, "mamba", "all", "off by one", (1,), (), (1,), (), 1.0, "") for m in "ab")
        >>> Offsets("B", pd.DataFrame(), (one, two), {}).pooled()
        ['mamba: 2 of 2 models at B+1']
        >>> none = Verdict("c", "mamba", "all", "none", (), (), (), (), 0.0, "")
        >>> Offsets("B", pd.DataFrame(), (one, none), {}).pooled()
        ['mamba: 1 of 2 models at B+1, 1 of 2 models at no position']
        """
        names = dict.fromkeys(v.architecture for v in self.models)
        return [f"{name}: {self._counted([v for v in self.models if v.architecture == name])}" for name in names]

    def _counted(self, verdicts: Sequence[Verdict]) -> str:
        def where(verdict: Verdict) -> str:
            if verdict.kind in ("none", "undecided"):
                return {"none": "at no position", "undecided": "undecided"}[verdict.kind]
            return "at " + " and ".join(position_name(self.token, n) for n in verdict.at)

        total = f"of {len(verdicts)} model{'s' * (len(verdicts) > 1)}"
        return ", ".join(f"{count} {total} {at}" for at, count in Counter(map(where, verdicts)).most_common())

    def to_markdown(self, path: str | Path | None = None) -> str:
        """A table of shares with intervals, a row for each model and a column for each offset, with verdicts and a legend.

        >>> frame = pd.DataFrame({"model": ["m"], "layer": ["all"], "offset": [1], "share": [1.0], "low": [0.9], "high": [1.0]})
        >>> verdict = Verdict("m", "mamba", "all", "off by one", (1,), (), (1,), (), 1.0, "m: off by one")
        >>> print(Offsets("B", frame, (verdict,), {}).to_markdown().splitlines()[2])
        | m       | off by one | 100% (90 to 100) |
        """
        model_rows = self.frame[self.frame["layer"] == "all"]
        lines = []
        for verdict in self.models:
            shares = model_rows.loc[model_rows["model"] == verdict.model, ["share", "low", "high"]].to_numpy() * 100
            cells = ["--" if np.isnan(s) else f"{round(s)}% ({round(low)} to {round(high)})" for s, low, high in shares]
            lines.append([verdict.model, verdict.kind, *cells])
        header = ["model", "verdict", *(position_name(self.token, n) for n in sorted(set(model_rows["offset"])))]
        text = "\n\n".join([tabulate(lines, header, "pipe", disable_numparse=True), *self.text().splitlines(), self._legend()])
        if path is not None:
            write_whole(Path(path), text + "\n")
        return text

    def _legend(self) -> str:
        return (
            f"*Shares of what is written at each position, with {self.provenance.get('level', 0.95):.0%} bootstrap intervals over examples. "
            f"A position counts if the whole interval is above {CARRIES:.0%}{self._patched()}.*"
        )

    def _patched(self) -> str:
        """How the tables were patched, and on which task."""
        said = dict.fromkeys(
            text for table in self.tables.values() for text in (way(table.provenance), facts(table.provenance)[2]) if text
        )
        return "".join(f"; {text}" for text in said)

    def plot(self, path: str | Path | None = None, style: str | None = None) -> Any:
        """A matplotlib Figure with a row for each model: shares with intervals, and effects by layer. ``path`` also saves it.

        >>> import circuitry as ct
        >>> from circuitry.evidence import off_by_one
        >>> task = ct.task("induction", distance=8, examples=12)
        >>> type(off_by_one(ct.load("bundled:gpt_neox"), task).plot()).__name__
        'Figure'
        """
        from ..drawing.figures import plotted
        from .offsets_figure import draw

        return plotted(draw, self, path, style)

    def to_json(self, path: str | Path) -> None:
        """Everything, with the effects of every example; ``Offsets.from_json`` reads it back.

        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "offsets.json"
        >>> Offsets("B", pd.DataFrame({"offset": [0]}), (), {}).to_json(file)
        >>> Offsets.from_json(file).token
        'B'
        """
        tables = {
            name: {"rows": t.frame.to_dict("list"), "axes": t.axes, "unit": t.unit, "provenance": t.provenance}
            for name, t in self.tables.items()
        }
        rows = self.frame.astype(object).where(self.frame.notna(), None).to_dict("list")  # strict JSON knows no NaN
        data = {"token": self.token, "rows": rows, "verdicts": [asdict(v) for v in self.verdicts], "tables": tables}
        write_whole(Path(path), json.dumps({**data, "provenance": self.provenance}, default=str, allow_nan=False))

    @classmethod
    def from_json(cls, path: str | Path) -> Offsets:
        """Read what ``to_json`` wrote. Raises CircuitryError for anything else.

        >>> Offsets.from_json("nowhere.json")
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: nowhere.json holds no offsets (No such file or directory); Offsets.to_json writes them
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            frame = pd.DataFrame(data["rows"])
            numbers = dict.fromkeys(frame.columns.intersection([*NUMBERS]), float)
            tables = {
                name: PatchingTable(pd.DataFrame(t["rows"]), tuple(t["axes"]), t["unit"], t["provenance"])
                for name, t in data["tables"].items()
            }
            verdicts = tuple(_verdict(verdict) for verdict in data["verdicts"])
            return cls(data["token"], frame.astype(numbers), verdicts, tables, data["provenance"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CircuitryError(f"{path} holds no offsets ({reason}); Offsets.to_json writes them") from error


def _verdict(data: dict[str, Any]) -> Verdict:
    """A verdict from JSON, which has lists for tuples."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return Verdict(**fields)
