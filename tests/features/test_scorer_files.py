"""Scores: asked for once, kept, sampled, put beside matches, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitry.colours import INK
from circuitry.errors import CircuitryError
from circuitry.features.dashboard.answers import Answers
from circuitry.features.dashboard.contexts import Context
from circuitry.features.dashboard.figure import figure5
from circuitry.features.dashboard.proxy import ProxyScorer
from circuitry.features.dashboard.question import COMPLEXITY, Question
from circuitry.features.dashboard.score import (
    contexts_of,
    estimate,
    pick,
    score_features,
    score_layers,
    uninterpretable,
    with_scores,
)
from support.features_known import ALL, ANYWHERE, CLASS, CONTEXT, TOKEN, activations, corpus, matches


class Counting:
    """A scorer that answers as told, and counts."""

    name, proxy = "counting", False

    def __init__(self, *answers: int | str | None) -> None:
        self.answers, self.asked = list(answers), 0

    def score(self, question: Question) -> int | str | None:
        self.asked += 1
        return self.answers.pop(0)


def contexts(count: int) -> dict[int, list[Context]]:
    return {number: [Context((f"t{number}",), (1.0,), 0, 0)] for number in range(count)}


def test_refusals_and_nonsense_are_missing() -> None:
    made = score_features(Counting(3, "Score: 2", None, "I will not.", 8), contexts(5))
    assert made["score"].tolist()[:2] == [3, 2] and made["score"].isna().tolist() == [False, False, True, True, True]
    assert made["answer"].tolist()[:2] == ["3", "Score: 2"] and made["answer"].tolist()[3] == "I will not."
    assert not made["proxy"].any() and set(made["scorer"]) == {"counting"}


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        score_features(Counting(1, None), contexts(5), cache=tmp_path)
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"key": "cut sh')
    second = Counting(3, 4, 5)
    made = score_features(second, contexts(5), cache=tmp_path)
    assert second.asked == 3 and made["score"].fillna(0).tolist() == [1, 0, 3, 4, 5]
    third = Counting()
    assert score_features(third, contexts(5), cache=tmp_path)["score"].fillna(0).tolist() == [1, 0, 3, 4, 5]
    assert third.asked == 0


def test_another_question_or_judge_is_asked_again(tmp_path: Path) -> None:
    score_features(Counting(1), contexts(1), cache=tmp_path)
    assert score_features(Counting(2), contexts(1), "monosemanticity", cache=tmp_path)["score"].tolist() == [2]
    other = Counting(3)
    other.name = "another"
    assert score_features(other, contexts(1), cache=tmp_path)["score"].tolist() == [3]
    keyed = Counting(4)
    keyed.key = "counting with other settings"  # type: ignore[attr-defined]
    assert score_features(keyed, contexts(1), cache=tmp_path)["score"].tolist() == [4]


def test_a_proxys_answers_are_computed_not_kept(tmp_path: Path) -> None:
    score_features(ProxyScorer(), contexts(2), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_estimate_before_anything_is_asked(tmp_path: Path) -> None:
    asked = Counting(1)
    asked.answer_tokens = 16  # type: ignore[attr-defined]
    score_features(asked, contexts(1), cache=tmp_path)
    told = estimate(asked, {**contexts(3), 9: []}, cache=tmp_path, price=(2.0, 10.0))
    assert (told.questions, told.answered, told.tokens_out, asked.asked) == (2, 1, 32, 1)
    length = len(Question(COMPLEXITY, contexts(3)[2]).text)
    assert told.tokens_in == round(2 * length / 2.2)
    assert told.cost == pytest.approx((told.tokens_in * 2 + 32 * 10) / 1e6)
    assert estimate(asked, contexts(3)).cost is None and (told + told).questions == 4
    assert "2 questions to counting (1 more are answered)" in told.text()


def test_answers_of_a_damaged_file_are_asked_again(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('[1]\n{"answer": 3}\nnonsense\n{"key": "k", "answer": 1}')
    known = Answers(tmp_path)
    known.put(Counting(), Question(COMPLEXITY, [CONTEXT]), 2)
    assert Answers(tmp_path).get(Counting(), Question(COMPLEXITY, [CONTEXT])) == 2


def test_scores_of_several_layers() -> None:
    both = [activations(), activations()[:, [ANYWHERE]]]
    told = contexts_of(both, corpus(), None, [(1, 0), (0, TOKEN)])
    made = score_layers(ProxyScorer(), told)
    assert made[["layer", "feature", "complexity", "monosemanticity"]].values.tolist() == [[1, 0, 5, 1], [0, TOKEN, 1, 5]]
    assert made["proxy"].all()


@given(st.integers(1, 60), st.integers(1, 80))
def test_a_sample_has_both_ends_and_the_range_between(limit: int, count: int) -> None:
    frame = pd.DataFrame({"mppc": np.random.default_rng(count).permutation(count) / count, "feature_a": range(count)})
    some = pick(pd.concat([frame, pd.DataFrame({"mppc": [np.nan], "feature_a": [-1]})]), limit)
    assert len(some) == min(limit, count) and not some["feature_a"].duplicated().any()
    assert some["mppc"].is_monotonic_decreasing and some["mppc"].iloc[0] == frame["mppc"].max()
    if limit > 1:
        assert some["mppc"].iloc[-1] == frame["mppc"].min()
    if 30 <= limit < count:
        assert set(frame["mppc"].nlargest(3)) | set(frame["mppc"].nsmallest(3)) <= set(some["mppc"])
        steps = -np.diff(some["mppc"].to_numpy())
        assert steps.max() <= 1.5 / limit + 2 / count, "no gap in the middle"


def test_low_matches_that_cannot_be_interpreted() -> None:
    scores = score_layers(ProxyScorer(), contexts_of([activations()], corpus(), None, [(0, f) for f in ALL]))
    table = matches(7).assign(mppc=[0.1, 0.9, 0.9, 0.15, np.nan, 0.05, 0.9])
    made = uninterpretable(table, scores)
    assert made["feature_a"].tolist() == [CLASS, ANYWHERE], "low and inconsistent; TOKEN is low but consistent"
    assert made["proxy"].all() and uninterpretable(table, scores, below=0.1)["feature_a"].tolist() == [CLASS]
    assert uninterpretable(table, scores, at_most=5)["feature_a"].tolist() == [CLASS, TOKEN, ANYWHERE]


def test_scores_do_not_multiply_rows() -> None:
    twice = pd.concat([matches(), matches()])
    scores = pd.DataFrame({"layer": 0, "feature": [TOKEN], "complexity": [1.0], "scorer": "x", "proxy": False})
    assert len(with_scores(twice, scores)) == len(twice)
    with pytest.raises(pd.errors.MergeError):
        with_scores(matches(), pd.concat([scores, scores]))


def scored(proxy: bool = False) -> pd.DataFrame:
    told = {"layer": 0, "feature": range(6), "complexity": [1, 1, 2, 2, 4, np.nan], "monosemanticity": [5, 5, 4, 1, 1, 1]}
    return pd.DataFrame(told).assign(scorer="a scorer", proxy=proxy)


def test_figure_5() -> None:
    table = matches().assign(mppc=[0.9, 0.7, 0.6, 0.4, np.nan, 0.1])
    variants = {
        name: table.assign(mppc=table["mppc"] - less) for less, name in enumerate(("SAE seed", "model seed", "architecture"))
    }
    figure = figure5({name: frame.assign(mppc=frame["mppc"].clip(0.01)) for name, frame in variants.items()}, scored())
    left, right = figure.axes
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "2"], "4 has no MPPC, and one feature has no score"
    assert [text.get_text() for text in right.get_xticklabels()] == ["1", "4", "5"]
    counts = [text.get_text() for text in left.texts]
    assert counts == ["2"] * 6
    medians = [float(np.asarray(line.get_ydata())[0]) for line in left.lines if line.get_color() == INK]
    assert medians[:2] == pytest.approx([0.8, 0.5])
    legend = left.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == list(variants)
    assert "proxy" not in left.get_title() and "a scorer" in figure.get_supxlabel()


def test_figure_5_says_what_a_proxy_is() -> None:
    figure = figure5({"architecture": matches()}, scored(proxy=True))
    assert all("(proxy)" in ax.get_title() and "(proxy)" in ax.get_xlabel() for ax in figure.axes)
    assert "no scorer read the text" in figure.get_supxlabel()


def test_figure_5_with_two_levels_and_without_scores() -> None:
    two = scored().rename(columns={"monosemanticity": "monosemantic"}).assign(complexity=np.nan)
    left, right = figure5({"mine": matches()}, two).axes
    assert right.get_xlabel() == "monosemantic"
    assert [text.get_text() for text in left.texts] == ["no feature was scored"]
    with pytest.raises(CircuitryError, match="figure 5 needs"):
        figure5({}, scored())
