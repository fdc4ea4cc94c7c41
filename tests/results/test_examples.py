"""Per-example effects of a table: which examples disagree, on which prompts, through stacking, selecting and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry import CircuitryError, PatchingTable
from circuitry.prompting.texts import PromptTexts
from circuitry.results.examples import aligned, robust_z

TOKENS = {0: "The", 1: " cat", 2: " dog", 3: " sat", 4: " ran"}


def texts(changed: int = 1, examples: int = 8) -> PromptTexts:
    clean = [[0, 1, 3] for _ in range(examples)]
    corrupted = [[token if place != changed else token + 1 for place, token in enumerate(row)] for row in clean]
    return PromptTexts(clean, corrupted, [1] * examples, [2] * examples, {"B": [1] * examples, "END": [2] * examples}, TOKENS)


def table(effects: Any, prompts: PromptTexts | None = None, **axes: Any) -> PatchingTable:
    effects = np.asarray(effects, float)
    cells = [{"layer": n, **axes} for n in range(len(effects))]
    examples = effects.shape[1]
    return PatchingTable.of(cells, effects, np.full(examples, 3.0), np.arange(examples, dtype=float), "logits", prompts=prompts)


@given(st.lists(st.lists(st.floats(-10, 10), min_size=5, max_size=5), min_size=1, max_size=4))
def test_examples_of_a_cell_are_the_rows_of_the_frame(effects: list[list[float]]) -> None:
    made = table(effects)
    for layer in range(len(effects)):
        frame = made.examples(layer=layer)
        rows = made.frame[made.frame["layer"] == layer].set_index("example")
        expected = rows["effect"].loc[frame["example"]]
        assert frame["effect"].tolist() == expected.tolist()
        assert np.allclose(frame["deviation"], expected - rows["effect"].mean())
        assert frame["deviation"].abs().is_monotonic_decreasing
        assert frame["whole"].tolist() == (rows["source"] - rows["base"]).loc[frame["example"]].tolist()


def test_a_bad_prompt_is_the_first_and_marked_whatever_the_signs_of_the_cells() -> None:
    rng = np.random.default_rng(0)
    means = np.array([[4.0], [-4.0], [1.0], [0.0]])
    effects = means + rng.normal(0, 0.1, (4, 20))
    effects[:2, 13] = 0.0  # the model does not do the task here: no effect in the two cells that have one
    found = table(effects).outlying()
    assert (found["example"][0], bool(found["outlier"][0])) == (13, True) and found["outlier"].sum() == 1
    assert found["deviation"][0] == pytest.approx(-2.0, abs=0.15), "half of the cells lose an effect of 4"


def test_robust_z_is_that_of_the_textbook() -> None:
    values = np.array([9.0, 10.0, 11.0, 12.0, 40.0])
    assert robust_z(values).tolist() == pytest.approx([-2 / 1.4826, -1 / 1.4826, 0, 1 / 1.4826, 29 / 1.4826])
    assert robust_z(np.array([1.0, 1.0, 1.0, 5.0])).tolist() == pytest.approx([0, 0, 0, 4 / 1.2533]), (
        "more than half are the same"
    )
    assert robust_z(np.ones(3)).tolist() == [0, 0, 0] and np.isnan(robust_z(np.full(2, np.nan))).all()


def test_missing_examples_keep_their_place() -> None:
    made = table([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    part = PatchingTable(made.frame.drop(index=[1]), made.axes, made.unit)
    numbers, values = aligned(part)
    assert numbers == [0, 1, 2] and np.array_equal(values, np.array([[1, np.nan, 3], [4, 5, 6]]), equal_nan=True)
    assert len(part.outlying()) == 3


def test_the_prompt_is_shown_with_what_differs() -> None:
    frame = table([[1.0] * 7 + [5.0]], texts()).examples(layer=0)
    assert frame[["example", "prompt", "answer", "foil"]].iloc[0].tolist() == [7, "The[ cat-> dog] sat", " cat", " dog"]
    assert "prompt" not in table([[1.0] * 8]).examples(layer=0)


def test_prompts_survive_a_file_and_stacks(tmp_path: Path) -> None:
    first, second = table(np.ones((2, 8)), texts(1)), table(np.ones((2, 8)), texts(2))
    for made in (first, PatchingTable.stack({8: first, 16: second}, "distance")):
        made.to_json(tmp_path / "t.json")
        assert PatchingTable.from_json(tmp_path / "t.json").prompts == made.prompts
    stacked = PatchingTable.stack({8: first, 16: second}, "distance")
    assert stacked.examples(distance=16, layer=0)["prompt"][0] == "The cat[ sat-> ran]"
    assert stacked.select("distance", 8).examples(layer=0)["prompt"][0] == "The[ cat-> dog] sat"
    assert len(PatchingTable.stack({8: first, 16: first}, "distance").prompts) == 1, "the same prompts are kept once"


def test_examples_of_other_prompts_are_told_apart() -> None:
    quiet, odd = np.tile(np.linspace(1, 1.1, 8), (2, 1)), np.tile(np.linspace(1, 1.1, 8), (2, 1))
    odd[:, 5] = -3
    found = PatchingTable.stack({8: table(quiet, texts(1)), 16: table(odd, texts(2))}, "distance").outlying()
    assert len(found) == 16 and found.iloc[0][["example", "distance"]].tolist() == [5, 16]
    assert found["outlier"].sum() == 1


def test_a_cell_has_a_value_for_each_axis() -> None:
    with pytest.raises(CircuitryError, match=r"expected a value for each axis \(layer\), got 'none'; .*examples\(layer=0\)"):
        table(np.ones((2, 3))).examples()
    with pytest.raises(CircuitryError, match="no cell has layer 7"):
        table(np.ones((2, 3))).examples(layer=7)


def test_patch_keeps_the_tasks_prompts() -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=3)
    made = ct.patch(model, task, "head[1,0] @ END -> logits", baseline=0, lint=False)
    prompts = task.prompts(model.vocabulary)
    kept = made.prompts_of()
    assert kept is not None and kept.clean == prompts.clean.tolist() and kept.corrupted == prompts.corrupted.tolist()
    assert kept.names(0)[int(prompts.where["END"][0])].split(", ")[-1] == "END"
    clean = "".join(model.tokenizer.decode([token]) for token in prompts.clean[2])
    assert kept.text(2, "clean") == clean


def test_left_out_cells_are_in_the_caption_of_a_stack_and_of_a_part() -> None:
    made = table(np.ones((1, 3)))
    made.provenance["skipped"] = [
        "{'layer': 3}: nothing reaches it: it is the same",
        "{'layer': 4}: nothing reaches it: it is the same",
    ]
    stacked = PatchingTable.stack({8: made, 16: table(np.ones((1, 3)))}, "distance")
    assert "2 cells left out, such as distance 8, layer 3: nothing reaches it" in stacked.caption()
    assert "left out" not in stacked.select("distance", 16).caption()
    assert "2 cells left out, such as layer 3" in stacked.select("distance", 8).to_markdown()


def test_a_comparison_of_few_examples_says_that_they_are_too_few() -> None:
    few, many = (PatchingTable.of([{"layer": 0}], np.ones((1, n)), np.zeros(n), np.ones(n), "u") for n in (3, 24))
    assert "too few examples to show any difference in 1 cell" in few.compare(few).caption()
    assert "too few" not in many.compare(many).caption()


def test_the_frame_is_one_that_pandas_can_join() -> None:
    frame = table(np.arange(8.0)[None], texts()).examples(layer=0)
    assert isinstance(frame, pd.DataFrame) and frame["example"].dtype.kind == "i" and frame["z"].dtype.kind == "f"
