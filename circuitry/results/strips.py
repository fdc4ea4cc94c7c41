"""The examples behind a table's means, as a page shows them: a strip of all examples, and those that disagree most."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..colours import number
from ..prompting.texts import PromptTexts
from ..thresholds import OUTLYING
from .examples import aligned, by_prompts
from .table import PatchingTable

WORST = 3
"""How many examples are shown at once: those that disagree most with the mean."""
_NAMED = 6
_LONG, _KEPT = 16, 5
"""Of so many tokens in a row that neither differ nor have a name, a page shows the first and the last few."""


@dataclass(frozen=True)
class Token:
    """A token of a prompt: its text, that of the corrupted prompt if it differs, and its position's name.

    If ``left_out`` is not 0, it stands for that many tokens that are not shown.
    """

    text: str
    other: str = ""
    name: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Strip:
    """The examples of the cells that were measured on the same prompts: ``label`` says which cells.

    ``bars`` and ``marks`` are SVG paths in a box that is one wide for each example and two high, of the deviations of all examples
    and of the outliers. ``frame`` is sorted like ``PatchingTable.outlying``.
    """

    label: str
    prompts: PromptTexts | None
    frame: pd.DataFrame
    bars: str
    marks: str

    @property
    def outliers(self) -> list[tuple[int, str]]:
        """The number and the robust z of the strongest outliers; ``more`` counts the others."""
        frame = self.frame[self.frame["outlier"]]
        return [(int(n), number(z)) for n, z in zip(frame["example"][:_NAMED], frame["z"], strict=False)]

    @property
    def more(self) -> int:
        """How many outliers are not in ``outliers``."""
        return max(0, int(self.frame["outlier"].sum()) - _NAMED)


def strips(table: PatchingTable) -> list[Strip]:
    """A strip for each set of prompts of a table; none for a table with a single example.

    >>> table = PatchingTable.of([{}], np.array([[1.0, 1.0, 4.0]]), np.zeros(3), np.ones(3), "logit")
    >>> strips(table)[0].frame["example"].tolist(), strips(table)[0].label
    ([2, 0, 1], '')
    """
    if table.frame["example"].nunique() < 2 or not np.isfinite(table.frame["effect"]).any():
        return []
    outlying, found = table.outlying(), []
    for values, prompts, _ in by_prompts(table):
        frame = outlying
        for axis, value in values.items():
            frame = frame[[entry == value for entry in frame[axis]]]
        label = ", ".join(f"{axis} {value}" for axis, value in values.items())
        ordered = frame.sort_values("example")
        marks = ordered["outlier"].to_numpy()
        found.append(Strip(label, prompts, frame.reset_index(drop=True), _bars(ordered, ~marks), _bars(ordered, marks)))
    return found


def _bars(frame: pd.DataFrame, chosen: Any) -> str:
    """A bar from the middle for each chosen example, as an SVG path; the largest deviation of the frame reaches the edge."""
    deviations = frame["deviation"].to_numpy(float)
    most = np.nanmax(np.abs(deviations), initial=0) or 1.0
    drawn = (place for place in np.flatnonzero(chosen) if np.isfinite(deviations[place]))
    return "".join(f"M{place + 0.5:g} 1v{-deviations[place] / most:.3f}".replace("v-0.000", "v0") for place in drawn)


def worst(strips: Sequence[Strip]) -> list[tuple[Strip, dict[str, Any], list[Token]]]:
    """The examples of a table that disagree most, each with its strip, its row of the frame and its prompt.

    >>> table = PatchingTable.of([{}], np.array([[1.0, 1.0, 4.0]]), np.zeros(3), np.ones(3), "logit")
    >>> [row["example"] for _, row, _ in worst(strips(table))]
    [2, 0, 1]
    """
    rows: list[tuple[Strip, dict[str, Any]]] = [
        (strip, {str(k): v for k, v in row.items()}) for strip in strips for row in strip.frame[:WORST].to_dict("records")
    ]
    rows.sort(key=lambda pair: -abs(pair[1]["z"]) if np.isfinite(pair[1]["z"]) else 0.0)
    return [(strip, row, tokens(strip.prompts, int(row["example"]))) for strip, row in rows[:WORST]]


def tokens(prompts: PromptTexts | None, example: int) -> list[Token]:
    """The tokens of an example; long stretches of tokens that neither differ nor have a name are left out.

    >>> texts = PromptTexts([[1, 2]], [[1, 3]], [2], [3], {"B": [1]}, {1: "a", 2: " b", 3: " c"})
    >>> [(token.text, token.other, token.name) for token in tokens(texts, 0)]
    [('a', '', ''), (' b', ' c', 'B')]
    """
    if prompts is None:
        return []
    names, pairs = prompts.names(example), list(zip(prompts.clean[example], prompts.corrupted[example], strict=True))
    shown: list[Token] = []
    plain: list[Token] = []
    for place, (a, b) in enumerate(pairs):
        token = Token(prompts.tokens[a], prompts.tokens[b] if a != b else "", names.get(place, ""))
        if a == b and place not in names:
            plain.append(token)
            continue
        shown += [*_shortened(plain), token]
        plain = []
    return [*shown, *_shortened(plain)]


def _shortened(run: list[Token]) -> list[Token]:
    if len(run) <= _LONG:
        return run
    return [*run[:_KEPT], Token("", left_out=len(run) - 2 * _KEPT), *run[-_KEPT:]]


def said(table: PatchingTable) -> list[str]:
    """For each cell, the numbers of the examples that disagree most with its mean, with their deviations; empty for one example.

    >>> said(PatchingTable.of([{}], np.array([[1.0, 1.0, 4.0]]), np.zeros(3), np.ones(3), "logit"))
    ['2 (+2.00), 0 (−1.00), 1 (−1.00)']
    """
    numbers, values = aligned(table)
    texts = []
    for row in values:
        away = row - np.nanmean(row) if np.isfinite(row).sum() > 1 else row * np.nan
        order = [place for place in np.argsort(-np.abs(away), kind="stable") if np.isfinite(away[place])][:WORST]
        texts.append(", ".join(f"{numbers[place]} ({number(away[place])})" for place in order))
    return texts


def data(tables: Iterable[tuple[int, PatchingTable]], room: int) -> str:
    """The effects of all examples and their prompts as JSON for the page's script, at most ``room`` bytes of it.

    A table that does not fit is left out; the page then says that its files have the effects. Effects are float32, which has seven
    digits. The text has no ``<``, so that it can be put into an element.

    >>> table = PatchingTable.of([{}], np.array([[1.0, 1.0, 4.0]]), np.zeros(3), np.ones(3), "logit")
    >>> json.loads(data([(1, table)], 1000))["tables"]["1"]["numbers"], json.loads(data([(1, table)], 0))["tables"]
    ([0, 1, 2], {})
    """
    sets: list[PromptTexts] = []
    kept: dict[str, str] = {}
    written: list[str] = []
    for number_of_table, table in tables:
        new = [
            prompts for n, (_, prompts) in enumerate(table.prompts) if prompts not in (*sets, *(p for _, p in table.prompts[:n]))
        ]
        entry, more = _table(table, [*sets, *new]), [_text(prompts.to_data()) for prompts in new]
        room -= (cost := len(entry) + sum(map(len, more)) + 20)
        if room < 0:
            room += cost
            continue
        sets, written, kept[str(number_of_table)] = [*sets, *new], [*written, *more], entry
    tables_text = ",".join(f'"{key}":{entry}' for key, entry in kept.items())
    return f'{{"worst":{WORST},"outlying":{OUTLYING},"long":{_LONG},"kept":{_KEPT},"sets":[{",".join(written)}],"tables":{{{tables_text}}}}}'


def _table(table: PatchingTable, sets: Sequence[PromptTexts]) -> str:
    numbers, values = aligned(table)
    cells = table.mean().index
    named = [dict(zip(table.axes, index if isinstance(index, tuple) else (index,), strict=False)) for index in cells]
    prompts = [table.prompts_of(**{str(k): v for k, v in cell.items()}) for cell in named]
    return _text({
        "numbers": numbers,
        "unit": table.unit,
        "sets": _short([sets.index(each) if each is not None else -1 for each in prompts]),
        "effects": base64.b64encode(values.astype("<f4").tobytes()).decode(),
    })  # fmt: skip


def _short(values: list[int]) -> list[int] | int:
    """One number for a list that repeats it."""
    return values[0] if len(set(values)) == 1 else values


def _text(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return (
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", " ").replace("\u2029", " ")
    )
