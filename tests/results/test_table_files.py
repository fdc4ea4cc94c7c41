"""Tables as files: JSON that comes back the same, CSV, Parquet, and all of them at once."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import circuitry as ct
from circuitry import CircuitryError, PatchingTable
from circuitry.results.recorded import path_of
from support.agreement import model
from support.some_tables import EFFECT, EVERY, RANDOM, table


@pytest.mark.parametrize("name", EVERY)
def test_json_comes_back_the_same(name: str, tmp_path: Path) -> None:
    EVERY[name].to_json(tmp_path / "deeper" / "t.json")
    back = PatchingTable.from_json(tmp_path / "deeper" / "t.json")
    pd.testing.assert_frame_equal(back.frame, EVERY[name].frame)
    assert (back.axes, back.unit, back.provenance) == (EVERY[name].axes, EVERY[name].unit, EVERY[name].provenance)
    assert repr(back) == repr(EVERY[name])


@pytest.mark.parametrize("text", ("", "[]", "{}", '{"rows": {}}', '{"rows": 3, "axes": [], "unit": "", "provenance": {}}'))
def test_other_json_is_no_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(CircuitryError, match=r"t\.json does not hold a patching table \(.*\); to_json writes one$"):
        PatchingTable.from_json(tmp_path / "t.json")


def test_a_table_with_the_former_columns_is_refused_with_the_reason(tmp_path: Path) -> None:
    rows = '{"layer": [0], "example": [0], "effect": [1.0], "base": [0], "other": [4]}'
    (tmp_path / "t.json").write_text(f'{{"about": {{}}, "axes": ["layer"], "unit": "logit", "rows": {rows}}}')
    with pytest.raises(
        CircuitryError, match=r"t\.json does not .*; an earlier version wrote tables with other columns; patch again$"
    ):
        PatchingTable.from_json(tmp_path / "t.json")


@pytest.mark.parametrize("name", EVERY)
def test_csv_has_every_row(name: str, tmp_path: Path) -> None:
    EVERY[name].to_csv(tmp_path / "deeper" / "t.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deeper" / "t.csv"), EVERY[name].frame, check_dtype=False)
    with (tmp_path / "deeper" / "t.csv").open() as file:
        assert next(csv.reader(file)) == [*EVERY[name].axes, "example", "effect", "base", "source"]


def test_parquet_comes_back_the_same(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "deeper" / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "deeper" / "t.parquet"), table().frame)


def test_parquet_has_mixed_axes_as_text(tmp_path: Path) -> None:
    table([{"pos": 3}, {"pos": "END"}, {"pos": ("B", 1)}], EFFECT[:3]).to_parquet(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["pos"].unique().tolist() == ["3", "END", "('B', 1)"]


def test_json_keeps_random_nodes_and_axes_of_any_kind(tmp_path: Path) -> None:
    cells = [{"pair": pair, "pos": pos} for pair in ((0, 1), (2, 3)) for pos in (3, "END")]
    made = table(cells, EFFECT[:4])
    made = PatchingTable.stack({8: replace(made, random=RANDOM), "far": made}, "distance")
    made.to_json(tmp_path / "t.json")
    back = PatchingTable.from_json(tmp_path / "t.json")
    pd.testing.assert_frame_equal(back.frame, made.frame)
    assert back.random is not None and made.random is not None
    pd.testing.assert_frame_equal(back.random, made.random)
    pd.testing.assert_frame_equal(back.statistics(), made.statistics())
    assert back.statistics()["random_quantile"].notna().tolist() == [True] * 4 + [False] * 4
    assert repr(back) == repr(made) and [type(v) for v in back.frame["pair"]] == [tuple] * 16
    assert list(back.select("pair", (2, 3)).select("distance", "far").pivot().columns) == [3, "END"]


def test_json_from_before_random_nodes_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        '{"provenance": {}, "axes": ["layer"], "unit": "logit",'
        ' "rows": {"layer": [0, 0], "example": [0, 1], "effect": [1.0, 3.0], "base": [0, 0], "source": [4, 4]}}'
    )
    back = PatchingTable.from_json(tmp_path / "t.json")
    assert back.random is None and back.normalized().tolist() == [0.5]


def test_a_table_that_was_run_comes_back_the_same(tmp_path: Path) -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    made = ct.patch(model("mamba"), task, "ssm_state[{layer}] @ {pos} -> logits", lint=False)
    made.to_json(tmp_path / "t.json")
    back = PatchingTable.from_json(tmp_path / "t.json")
    pd.testing.assert_frame_equal(back.frame, made.frame)
    assert back.provenance == made.provenance and json.loads((tmp_path / "t.json").read_text())["axes"] == ["layer", "pos"]


PATHS: dict[str, Any] = {
    "one": "ssm_state[{layer}] @ {pos} -> logits freezing ssm_state",
    "labelled": ct.labelled("part", {p: f"h[{{layer}}].{p} @ {{pos}} -> logits freezing gate" for p in ("read", "carry")}),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_record_holds_its_paths_as_data_and_one_of_old_as_text(name: str, tmp_path: Path) -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    made = ct.patch(model("mamba"), task, PATHS[name], axes={"pos": ["B", "B+1"]}, lint=False, baseline=0)
    made.to_json(tmp_path / "t.json")
    provenance = PatchingTable.from_json(tmp_path / "t.json").provenance
    old = {key: value for key, value in provenance.items() if key != "path_data"} | {"task": repr(task)}
    for cell in made.mean().index:
        values = dict(zip(made.axes, cell, strict=True))
        path = path_of(provenance, values)
        assert path is not None and path.axes == () and path == path_of(old, values)
        assert str(path.sources[0].at) == values["pos"] and path.sources[0].node.indices == (values["layer"],)
    assert replace(made, provenance=old).caption() == made.caption()
    assert path_of({**provenance, "path_data": {}}, {}) is None


def test_save_writes_everything_under_the_name_given(tmp_path: Path) -> None:
    suffixes = (".csv", ".parquet", ".json", ".md", ".tex", ".png", ".svg", "-statistics.csv")
    written = table().save(tmp_path / "deeper", "lag.1")
    assert written == [tmp_path / "deeper" / f"lag.1{suffix}" for suffix in suffixes]
    assert all(path.stat().st_size > 100 for path in written)
    back = pd.read_csv(written[-1], index_col=["layer", "pos"])
    pd.testing.assert_frame_equal(back, table().statistics(), check_dtype=False)


def test_an_axis_cannot_be_called_like_a_column() -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    with pytest.raises(
        CircuitryError, match=r"^every table has a column 'effect', so no axis can be called that; try {effects}$"
    ):
        ct.patch(model("gpt2"), task, "mlp[{effect}] -> logits")
