"""The methodology grid: which settings there are, that each is a patch of its own, and when a finding holds."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import circuitry as ct
from circuitry import CircuitryError, PatchingTable, PathError
from circuitry.evidence import grid
from circuitry.evidence.grid import Sensitivity, frozen_sets, sensitivity
from circuitry.evidence.grid_figure import draw
from circuitry.thresholds import RESAMPLES
from support import known
from support.agreement import model

TASK = ct.task("induction", distance=5, examples=6, prefix=2)
OPTIONS: dict[str, Any] = {}
STATE = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
KINDS = ("gpt_neox", "gpt_neox-sequential", "gpt2", "llama", "mistral", "qwen2", "qwen3", "mamba")


def labels(kind: str, path: str) -> list[str]:
    return [label for label, _ in frozen_sets(model(kind).graph, ct.parse(path))]


@functools.cache
def states() -> Sensitivity:
    return sensitivity(model("mamba"), TASK, STATE, **OPTIONS)


# --- frozen sets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_architecture_leaves_live_is_held_in_turn(kind: str) -> None:
    path = STATE if kind == "mamba" else "head[{layer},{head}] @ END -> logits freezing head"
    more = ["and gate", "and ssm_in.C", "and ssm_in.skip"] if kind == "mamba" else ["and mlp"]
    assert labels(kind, path) == ["as written", "nothing", *more]


def test_a_set_is_the_paths_own_and_one_node_more() -> None:
    sets = dict(frozen_sets(model("mamba").graph, ct.parse("c[{layer}] @ {p} -> logits freezing h except h[{layer}]")))
    assert {label: str(path) for label, path in sets.items()} == {
        "as written": "c[{layer}] @ {p} -> logits freezing h except h[{layer}]",
        "nothing": "c[{layer}] @ {p} -> logits",
        "and gate": "c[{layer}] @ {p} -> logits freezing h, gate except h[{layer}]",
        "and ssm_in.C": "c[{layer}] @ {p} -> logits freezing h, ssm_in.C except h[{layer}]",
        "and ssm_in.skip": "c[{layer}] @ {p} -> logits freezing h, ssm_in.skip except h[{layer}]",
    }


@pytest.mark.parametrize(
    ("kind", "path", "wanted"),
    [
        ("mamba", "ssm_state[1] @ B -> logits", ["as written", "and gate", "and ssm_in.C", "and ssm_in.skip"]),
        ("mamba", "h[1] @ B -> logits freezing h, g, c.C", ["as written", "nothing", "and ssm_in.skip"]),
        ("gpt2", "head[0,0] @ END -> logits directly", ["as written", "nothing"]),
        ("gpt2", "mlp[0] @ B -> head[2,1].k -> logits freezing head", ["as written", "nothing", "and mlp"]),
    ],
)
def test_no_set_is_measured_twice(kind: str, path: str, wanted: list[str]) -> None:
    assert labels(kind, path) == wanted


def test_sets_that_cut_the_path_are_left_out() -> None:
    """What a skip connection adds goes through the gate's product, but a path through MLPs dies with them."""
    assert labels("gpt2", "mlp[0] @ B -> mlp[1] @ B freezing head") == ["as written", "nothing", "and mlp"]
    assert labels("gpt2", "head[0,0] @ END -> mlp[2] @ END freezing attn except attn[0]") == ["as written", "nothing", "and mlp"]
    cut = "ssm_in[1] @ END -> ssm_out[1] @ END freezing ssm_state, ssm_in.C"
    assert labels("mamba", cut) == ["as written", "nothing", "and gate"]
    cut = "conv_in[1] @ END -> ssm_out[1] @ END freezing ssm_state, ssm_in.C"
    assert labels("mamba", cut) == ["as written", "nothing", "and gate"]


@pytest.mark.parametrize(
    "path",
    [
        "x[1] @ {a} -> conv_tap[1,1] @ {b}",
        "x[1] @ {a} -> conv_tap[1,1] @ {a}+1",
        "x[1] @ B -> conv_tap[1,1] @ {b}",
        "h[1] @ 3 -> logits @ {b} freezing h",
        "h[{layer}] @ {p} -> logits freezing h",
        "h[0] @ B -> h[2] @ END freezing gate",
    ],
)
def test_named_and_open_positions_are_anywhere_the_graph_allows(path: str) -> None:
    """Nothing is known of where they are, so only what the graph rules out everywhere is left out."""
    assert {"as written", "and gate", "and ssm_in.skip"} - {f"and {name}" for name in ct.parse(path).legs[-1].frozen} <= set(
        labels("mamba", path)
    )


@pytest.mark.parametrize("path", ("x[1] @ {a} -> conv_tap[1,1] @ {a}", "h[1] @ B+1 -> logits @ B", "h[1] @ 4 -> logits @ 3"))
def test_what_no_position_allows_is_no_setting(path: str) -> None:
    """Only the path as written is tried, so that its mistake is explained."""
    assert labels("mamba", path) == ["as written"]
    with pytest.raises(PathError, match=r"^out of reach: from x\[1\] |comes before .*: nothing flows back in the text"):
        sensitivity(model("mamba"), TASK, path, **OPTIONS)


def test_a_path_that_cannot_be_read_says_why() -> None:
    with pytest.raises(PathError, match=r"^mamba has no node 'ssm_stat'"):
        sensitivity(model("mamba"), TASK, "ssm_stat[1] @ B -> logits", **OPTIONS)


# --- settings --------------------------------------------------------------------------------------------------------------


def test_every_setting_is_there_once() -> None:
    frame = states().frame
    ways = frame[["ablation", "direction", "frozen"]].drop_duplicates()
    assert len(frame) == len(ways) * 3 == (2 + 1 + 1) * 5 * 3 and not frame[list(grid.SETTING)].duplicated().any()
    assert set(zip(ways["ablation"], ways["direction"], strict=True)) == {
        ("resample", "noising"),
        ("resample", "denoising"),
        ("zero", "noising"),
        ("mean", "noising"),
    }
    assert list(states().tables) == list(ways.itertuples(index=False, name=None))


@pytest.mark.parametrize(("kind", "path"), [("mamba", STATE), ("llama", "head[{layer},{head}] @ END -> logits freezing head")])
def test_every_setting_is_a_patch_of_its_own(kind: str, path: str) -> None:
    some: dict[str, Any] = {"axes": {} if kind == "mamba" else {"head": [1]}, **OPTIONS}
    found = states() if kind == "mamba" else sensitivity(model(kind), TASK, path, metrics=["logit", "log_probability"], **some)
    sets = dict(frozen_sets(model(kind).graph, ct.parse(path)))
    for number, row in enumerate(found.frame.to_dict("records")):
        if (number + number // 6) % 6:  # every sixth, of each metric in turn
            continue
        how: dict[str, Any] = {"intervention": row["ablation"], "direction": row["direction"], "metric": row["metric"]}
        alone = ct.patch(model(kind), TASK, sets[row["frozen"]], lint=False, baseline=0, **how, **some)
        kept = found.tables[row["ablation"], row["direction"], row["frozen"]].select("metric", row["metric"])
        np.testing.assert_allclose(kept.frame["effect"], alone.frame["effect"], atol=1e-10)
        share, numbers = alone.normalized(), alone.statistics()
        one, whole = numbers.loc[[found.cell]].iloc[0], (alone.frame["source"] - alone.frame["base"]).mean()
        assert row["normalized"] == pytest.approx(share.loc[[found.cell]].iloc[0], abs=1e-9)
        assert row["strongest"] == share.index.tolist()[int(share.argmax())]
        assert row["q"] == pytest.approx(one["q"]) and row["holds"] == (row["strongest"] == found.cell and row["q"] < 0.05)
        assert (row["low"], row["high"]) == pytest.approx(tuple(sorted((one["low"] / whole, one["high"] / whole))), abs=1e-9)
        assert row["low"] <= row["normalized"] <= row["high"]


def test_the_finding_is_that_of_the_first_setting() -> None:
    shares = ct.patch(model("mamba"), TASK, STATE, lint=False, baseline=0, **OPTIONS).normalized()
    assert states().cell == shares.idxmax()
    other = sensitivity(model("mamba"), TASK, STATE, ablations=["zero"], metrics=["log_probability"], **OPTIONS)
    zeroed = ct.patch(
        model("mamba"), TASK, STATE, metric="log_probability", intervention="zero", lint=False, baseline=0, **OPTIONS
    )
    assert other.cell == zeroed.normalized().idxmax()


def test_frozen_sets_of_your_own_are_beside_the_path_as_written() -> None:
    """What the path exempts is exempt where it is held, and only there."""
    path = "c[{layer}] @ B+1 -> logits freezing h except h[{layer}]"
    sets = {"states and gates": ["h", "g"], "gates": ["gate"], "nothing": []}
    some: dict[str, Any] = {"frozen": sets, "ablations": ["resample"], "directions": ["noising"], "metrics": ["logit"], **OPTIONS}
    found = sensitivity(model("mamba"), TASK, path, **some)
    paths = {
        "as written": path,
        "states and gates": "c[{layer}] @ B+1 -> logits freezing h, g except h[{layer}]",
        "gates": "c[{layer}] @ B+1 -> logits freezing gate",
        "nothing": "c[{layer}] @ B+1 -> logits",
    }
    assert found.frame["frozen"].tolist() == list(paths)
    for label, one in paths.items():
        alone = ct.patch(model("mamba"), TASK, one, lint=False, baseline=0, **OPTIONS)
        np.testing.assert_allclose(found.tables["resample", "noising", label].frame["effect"], alone.frame["effect"], atol=1e-10)


def test_a_set_of_your_own_that_cuts_the_path_is_refused() -> None:
    """One that was asked for by name is not left out silently."""
    with pytest.raises(PathError, match="cuts every path from ssm_state"):
        sensitivity(model("mamba"), TASK, STATE, frozen={"outputs": ["mixer_out"]}, **OPTIONS)


def test_a_cell_that_a_setting_cannot_run_has_no_effect_there() -> None:
    """With heads held an MLP's change stays where it is, so only END is left; the finding is at another position."""
    some: dict[str, Any] = {"ablations": ["resample"], "directions": ["noising"], "metrics": ["logit"], **OPTIONS}
    path, axes = "mlp[{layer}] @ {p} -> logits", dict[str, list[int | str]](p=["B", "END"], layer=[0, 1])

    def at_b(table: PatchingTable) -> bool:
        """something is left at B"""
        return bool((table.frame["p"] == "B").any())

    task = TASK.but(seed=0)
    first = ct.patch(model("gpt2"), task, path, axes=axes, lint=False, baseline=0, **OPTIONS).normalized()
    assert first.index.tolist()[first.to_numpy().argmax()][1] == "B", "the seed makes it so"
    found = sensitivity(model("gpt2"), task, path, holds=at_b, frozen={"heads": ["head"]}, axes=axes, **some)
    one, other = found.frame.to_dict("records")
    assert one["holds"] and one["normalized"] == first.max()
    assert (other["normalized"], other["low"], other["high"], other["q"], other["holds"]) == (0, 0, 0, 1, False)
    assert "something is left at B" in found.text() and found.frame["strongest"].str[1].tolist() == ["B", "END"]


def test_a_path_without_open_axes_is_one_cell() -> None:
    found = sensitivity(
        model("mamba"), TASK, "h[1] @ B -> logits freezing h", ablations=["resample"], metrics=["logit"], **OPTIONS
    )
    assert len(found.frame) == 10 and found.cell == 0
    assert found.frame["strongest"].tolist() == [0] * 10


def test_no_setting_is_an_error() -> None:
    some: list[dict[str, Any]] = [{"ablations": []}, {"directions": [], "ablations": ["resample"]}, {"metrics": []}]
    for nothing in some:
        with pytest.raises(CircuitryError, match=r"^no (setting is left|metric) to measure; "):
            sensitivity(model("mamba"), TASK, STATE, **nothing, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablations": ["noise"]}, "no intervention 'noise'; known here: given, mean, resample, zero"),
        ({"directions": ["up"]}, "expected direction 'noising' or 'denoising', got 'up'"),
        ({"metrics": ["logits"]}, "no metric 'logits'; did you mean 'logit'?"),
        ({"frozen": {"x": ["gates"]}}, "mamba has no node 'gates'; did you mean 'gate'?"),
        ({"axes": {"layer": [7]}}, "layer=7 is out of range; {layer} has values 0 to 2"),
    ],
)
def test_a_wrong_choice_says_what_would_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        sensitivity(model("mamba"), TASK, STATE, **options, **OPTIONS)
    assert str(found.value).startswith(message)


def test_options_go_to_patch() -> None:
    found = sensitivity(
        model("mamba"), TASK, STATE, ablations=["resample"], metrics=["logit"], axes={"layer": [2]}, baseline=3, **OPTIONS
    )
    assert found.cell == 2
    assert all(t.random is not None and t.random["draw"].nunique() == 3 for t in found.tables.values())


# --- a finding that depends on the method ----------------------------------------------------------------------------------


@functools.cache
def planted() -> Sensitivity:
    """Head 0.0 copies B one token on and 1.0 takes it to the logits from there, or, twice as much, 0.1 takes it where it stands.

    With the heads of layer 1 held, the way of 0.0 is cut; so whichever head is stronger depends on what is frozen.
    """
    made = known.llama([(0, 1, 1), (0, None, 2)], [(1, None, 2), (1, None, 2), (1, None, 2), (1, None, 2)])
    some: dict[str, Any] = {"axes": {"head": [0, 1]}, "ablations": ["resample"], "metrics": ["logit", "logit_difference"]}
    task = known.task(examples=12)
    return sensitivity(made, task, "head[0,{head}] -> logits", frozen={"layer 1": ["head[1]"]}, **some, **OPTIONS)


def test_a_planted_finding_holds_only_where_it_should() -> None:
    found = planted()
    assert found.cell == 0 and found.held == 4 and len(found.frame) == 8
    assert (found.frame["holds"] == (found.frame["frozen"] == "as written")).all()
    assert found.frame.loc[~found.frame["holds"], "strongest"].tolist() == [1] * 4
    np.testing.assert_allclose(found.frame["normalized"], [0.8, 0.8, 0, 0] * 2, atol=0.01)


def test_the_text_counts_settings_by_choice() -> None:
    assert planted().text().splitlines() == [
        "head[0,{head}] -> logits",
        "the finding (cell 0 is the strongest) holds in 4 of 8 settings",
        "  direction noising: 2 of 4, denoising: 2 of 4",
        "  frozen as written: 4 of 4, layer 1: 0 of 4",
        "  metric logit: 2 of 4, logit_difference: 2 of 4",
        "  everywhere ablation resample",
        planted().text().splitlines()[-1],
    ]
    assert re.fullmatch(r"\(.+, .+ \(.*seed \d+\)\)", planted().text().splitlines()[-1]), "the model and the task"
    assert repr(planted()) == planted().text()


def test_a_finding_of_your_own_is_asked_of_every_table() -> None:
    asked: list[PatchingTable] = []

    def half(table: PatchingTable) -> bool:
        """layer 1 has at least half of the effect"""
        asked.append(table)
        return bool(table.normalized()[1] >= 0.5)

    some: dict[str, Any] = {"ablations": ["resample"], "directions": ["noising"], "metrics": ["logit", "kl"], **OPTIONS}
    found = sensitivity(model("mamba"), TASK, STATE, holds=half, **some)
    assert found.frame["holds"].tolist() == [bool(table.normalized()[1] >= 0.5) for table in asked] and len(asked) == 10
    assert found.text().splitlines()[1].startswith("the finding (layer 1 has at least half of the effect) holds in ")
    unnamed = sensitivity(model("mamba"), TASK, STATE, holds=lambda table: True, ablations=["mean"], metrics=["kl"], **OPTIONS)
    assert "the finding (<lambda>) holds in 5 of 5 settings" in unnamed.text()


def test_few_examples_cannot_show_that_a_finding_holds() -> None:
    """Three examples have no p below 1/4, so q cannot be small, and the default finding does not hold."""
    found = sensitivity(model("mamba"), TASK.but(examples=3), STATE, ablations=["resample"], metrics=["logit"], **OPTIONS)
    assert found.held == 0 and (found.frame["q"] >= 0.25).all() and RESAMPLES > 0


# --- the picture -----------------------------------------------------------------------------------------------------------


def test_the_picture_has_a_row_a_way_and_a_cross_where_the_finding_fails() -> None:
    figure = draw(planted())
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "resample, noising, as written",
        "resample, noising, layer 1",
        "resample, denoising, as written",
        "resample, denoising, layer 1",
    ]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["logit", "logit\ndifference"]
    assert [text.get_text() for text in ax.texts] == [
        f"{round(row['normalized'], 2) + 0.0:.2f}{'' if row['holds'] else ' ✗'}" for row in planted().frame.to_dict("records")
    ]
    assert sum("✗" in text.get_text() for text in ax.texts) == 4
    np.testing.assert_array_equal(ax.images[0].get_array(), planted().frame["normalized"].to_numpy().reshape(4, 2))


def test_labels_of_the_picture_do_not_meet() -> None:
    figure = draw(states())
    figure.draw_without_rendering()
    ax = figure.axes[0]
    assert len(ax.get_yticklabels()) == 20 and "resample, noising, as written and ssm_in.C" in [
        t.get_text() for t in ax.get_yticklabels()
    ]
    for labels_of in (ax.get_xticklabels(), ax.get_yticklabels(), ax.texts):
        boxes = [label.get_window_extent() for label in labels_of]
        assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    width, height = figure.canvas.get_width_height()
    for label in (*ax.get_yticklabels(), figure._suptitle):  # type: ignore[attr-defined]
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height


def test_ways_that_were_measured_are_in_their_order_even_without_numbers() -> None:
    rows = [("zero", "noising", "b", "kl", np.nan), ("resample", "noising", "a", "kl", 0.5), ("mean", "noising", "a", "kl", 0.1)]
    frame = pd.DataFrame(rows, columns=[*grid.SETTING, "normalized"]).assign(holds=[False, True, True])
    texts = [text.get_text() for text in draw(Sensitivity("h[1] -> logits", 1, frame)).axes[0].texts]
    assert texts == ["-- ✗", "0.50", "0.10"]


def test_the_picture_is_saved(tmp_path: Any) -> None:
    for suffix in (".png", ".svg"):
        planted().plot(str(tmp_path / f"grid{suffix}"))
        assert (tmp_path / f"grid{suffix}").stat().st_size > 1000


def test_the_python_in_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sensitivity.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block.replace("examples=64", "distance=8, examples=2"), "docs/sensitivity.md", "exec"), names)
    assert (tmp_path / "grid.png").exists() and len(names["found"].frame) == 60
    assert "in 0 of 60 settings" in capsys.readouterr().out, "two examples show nothing"
