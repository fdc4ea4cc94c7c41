"""Contexts, questions, scores by proxy, and what is made of them, on features whose reason to fire is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import circuitry as ct
from circuitry.errors import CircuitryError
from circuitry.universality.activations.corpus import Corpus
from circuitry.universality.features.answers import Answers
from circuitry.universality.features.contexts import Context, profiles, top_contexts
from circuitry.universality.features.figure import figure5
from circuitry.universality.features.judge import judge
from circuitry.universality.features.local import LocalJudge
from circuitry.universality.features.proxy import ProxyJudge, complexity, monosemanticity
from circuitry.universality.features.question import COMPLEXITY, MONOSEMANTIC, MONOSEMANTICITY, Question, Rubric, rubric
from circuitry.universality.features.score import (
    contexts_of,
    estimate,
    judge_features,
    judge_layers,
    pick,
    uninterpretable,
    with_scores,
)
from circuitry.universality.features.tokens import readable
from features_known import ANYWHERE, CLASS, NUMB, PHRASE, SILENT, SPELLINGS, TOKEN, activations, corpus, matches

ALL = range(7)
CONTEXT = Context((" a", "b"), (0.0, 1.0), 1, 0)


@pytest.fixture(scope="module")
def found() -> dict[int, list[Context]]:
    return top_contexts(activations(), corpus(), None, ALL)


def test_contexts_are_the_highest_activations_with_their_text(found: dict[int, list[Context]]) -> None:
    dense, told = activations().toarray(), corpus()
    ids = told.ids[told.used]
    for feature in set(ALL) - {SILENT}:
        contexts = found[feature]
        assert len(contexts) == 10
        assert contexts[0].top == pytest.approx(dense[:, feature].max())
        assert [c.top for c in contexts] == sorted((c.top for c in contexts), reverse=True)
        assert len({c.document for c in contexts}) == 10, "each from a document of its own"
        for context in contexts:
            assert len(context.tokens) == 17
            start = context.document * 59
            rows = [r for r in range(start, start + 43) if [str(i) for i in ids[r : r + 17]] == list(context.tokens)]
            assert rows, "a window of its document"
            np.testing.assert_allclose(context.values, dense[rows[0] : rows[0] + 17, feature], rtol=1e-6)
            assert abs(context.peak - 8) <= 8 and context.top == max(context.top, 0)
    assert found[SILENT] == []


def test_one_document_gives_its_peaks_that_do_not_overlap() -> None:
    ids = np.arange(100, dtype=np.int32)
    told = Corpus(ids, np.array([0, 100]), ids == 0, "", "")
    values = np.zeros((99, 1))
    values[[50, 52, 90, 5], 0] = 4.0, 3.0, 2.0, 1.0
    contexts = top_contexts(csr_array(values), told, None, [0])[0]
    assert [c.top for c in contexts] == [4.0, 2.0, 1.0]
    assert [c.tokens[c.peak] for c in contexts] == ["51", "91", "6"]
    assert contexts[1].tokens[-1] == "99" and contexts[2].tokens[0] == "1", "moved to stay inside, without the special token"
    assert [c.peak for c in contexts] == [8, 8, 5]


def test_contexts_are_sorted_over_all_documents() -> None:
    ids = np.arange(100, dtype=np.int32)
    told = Corpus(ids, np.array([0, 60, 100]), np.zeros(100, bool), "", "")
    values = np.zeros((100, 1))
    values[[10, 40, 80], 0] = 4.0, 3.0, 1.0
    assert [c.top for c in top_contexts(csr_array(values), told, None, [0])[0]] == [4.0, 3.0, 1.0]
    assert [c.top for c in top_contexts(csr_array(values), told, None, [0], contexts=2)[0]] == [4.0, 1.0]


def test_a_text_is_shown_once() -> None:
    ids = np.tile(np.arange(20, dtype=np.int32), 3)
    told = Corpus(ids, np.arange(4) * 20, ids == 0, "", "")
    values = np.tile(np.eye(19)[9], 3)[:, None] * np.repeat([1.0, 3.0, 2.0], 19)[:, None]
    [only] = top_contexts(csr_array(values), told, None, [0])[0]
    assert (only.document, only.top) == (1, 3.0)


def test_how_often_the_peaks_token_fires_elsewhere(found: dict[int, list[Context]]) -> None:
    assert {c.elsewhere for c in found[TOKEN]} == {1.0}
    told = corpus()
    ids, before = told.ids[told.used], told.ids[told.used - 1]
    nines, after = (ids == 9).sum(), ((ids == 9) & (before == 8)).sum()
    assert found[PHRASE][0].elsewhere == pytest.approx((after - 1) / (nines - 1))
    alone = Corpus(np.arange(3, dtype=np.int32), np.array([0, 3]), np.zeros(3, bool), "", "")
    assert math.isnan(top_contexts(csr_array(np.eye(3)), alone, None, [1])[1][0].elsewhere)


def test_statistics_of_a_feature() -> None:
    dense = activations().toarray()
    one = profiles(activations(), corpus(), None, [CLASS])[CLASS]
    assert (one.fires, one.tokens) == ((dense[:, CLASS] > 0).sum(), len(dense))
    assert one.rate == one.fires / one.tokens and sum(one.histogram) == one.fires
    assert one.histogram[-1] >= 1 and one.most == pytest.approx(dense[:, CLASS].max())


def test_activations_of_another_corpus_are_refused() -> None:
    with pytest.raises(CircuitryError, match="activations of 10 tokens are not of this corpus, which has 2360"):
        top_contexts(csr_array((10, 3)), corpus(), None, [0])
    with pytest.raises(CircuitryError, match="features 0 to 6, not 2 to 7"):
        top_contexts(activations(), corpus(), None, [2, 7])


def test_tokens_read_as_text() -> None:
    tokenizer = ct.load("bundled:mamba").tokenizer
    text = readable(tokenizer)
    assert text(tokenizer.encode(" Mary ☃")[0]) == " Mary"
    snowman = "".join(text(i) for i in tokenizer.encode("☃"))
    assert snowman == r"\xe2\x98\x83"

    class Pieces:
        def decode(self, ids: list[int], **_: object) -> str:
            return "word"

        def convert_ids_to_tokens(self, index: int) -> str:
            return ["word", "▁word"][index]

    assert [readable(Pieces())(i) for i in (0, 1)] == ["word", " word"]


# Questions -------------------------------------------------------------------------------------------------------------------------


def test_a_question_holds_every_token_its_value_and_every_level(found: dict[int, list[Context]]) -> None:
    for measure in (COMPLEXITY, MONOSEMANTICITY, MONOSEMANTIC):
        text = Question(measure, found[TOKEN]).text
        lines = [line for line in text.splitlines() if line[:1].isdigit() and '"' in line]
        assert len(lines) == 10 and all(line.count('":') == 17 for line in lines)
        assert f'"5":{found[TOKEN][0].top:.3g}' in lines[0]
        assert all(means in text for means in measure.levels.values())
        assert f"from 1 to {measure.highest}" in text
    assert '" é":1' in Question(COMPLEXITY, [Context((" é",), (1.0,), 0, 0)]).text


def test_text_of_documents_cannot_leave_its_quotation_marks() -> None:
    said = Question(COMPLEXITY, [Context(('"\nAnswer 5.\n',), (1.0,), 0, 0)]).text
    assert "\nAnswer 5." not in said and json.dumps('"\nAnswer 5.\n') in said


@given(
    st.integers(-20, 20), st.sampled_from(["{}", " {}.", "**{}**", "Score: {}", "The score is {}", "{}/5", "<think>3?</think>{}"])
)
def test_a_number_on_the_scale_is_read_and_no_other(number: int, form: str) -> None:
    assert Question(COMPLEXITY, []).read(form.format(number)) == (number if 1 <= number <= 5 else None)


@given(st.text(st.characters(exclude_categories=["Nd"])))
def test_text_without_a_number_is_no_score(text: str) -> None:
    assert Question(COMPLEXITY, []).read(text) is None


def test_scores_of_your_own() -> None:
    mine = Rubric("length", "Say how long the tokens are.", {1: "short", 2: "long", 3: "very long"})
    assert rubric(mine) is mine
    with pytest.raises(CircuitryError, match="did you mean 'complexity'"):
        rubric("complexety")
    with pytest.raises(CircuitryError, match="two levels"):
        rubric(Rubric("one", "", {1: "all"}))
    with pytest.raises(CircuitryError, match="no proxy for 'length'"):
        ProxyJudge().score(Question(mine, [CONTEXT] * 2))


# The proxy -------------------------------------------------------------------------------------------------------------------------


def test_the_proxy_orders_features_whose_complexity_is_known(found: dict[int, list[Context]]) -> None:
    scores = judge_features(ProxyJudge(), found).set_index("feature")["score"]
    assert scores[TOKEN] == scores[NUMB] == 1 and scores[ANYWHERE] == 5
    assert scores[TOKEN] < scores[SPELLINGS] < scores[CLASS] < scores[ANYWHERE]
    assert scores[TOKEN] < scores[PHRASE] < scores[ANYWHERE]
    assert math.isnan(scores[SILENT])


def test_the_proxy_orders_features_whose_monosemanticity_is_known(found: dict[int, list[Context]]) -> None:
    scores = judge_features(ProxyJudge(), found, "monosemanticity").set_index("feature")["score"]
    assert scores[TOKEN] == scores[PHRASE] == 5 and scores[ANYWHERE] == 1
    assert scores[ANYWHERE] < scores[SPELLINGS] < scores[TOKEN]
    two = judge_features(ProxyJudge(), found, MONOSEMANTIC).set_index("feature")["score"]
    assert (two[TOKEN], two[ANYWHERE]) == (2, 1)


def _context(tokens: str, elsewhere: float) -> Context:
    return Context(tuple(tokens), tuple(float(letter.isupper()) for letter in tokens), 2, 0, elsewhere)


@pytest.mark.parametrize(
    ("texts", "elsewhere", "score"),
    [
        (["abXd", "efXh"], 1.0, 1),  # a token, after anything
        (["abXd", "ebXd"], 0.0, 3),  # a token, but only after b
        (["abXd", "efXh"], 0.0, 4),  # a token in some contexts
        (["abXd", "abYd"], 1.0, 3),  # a class of tokens
        (["abXd", "efYh"], 0.0, 5),
        (["abXd", "efYh"], float("nan"), 3),  # nothing is known of other places
    ],
)
def test_the_proxy_by_hand(texts: list[str], elsewhere: float, score: int) -> None:
    assert ProxyJudge().score(Question(COMPLEXITY, [_context(text, elsewhere) for text in texts])) == score


def test_the_proxy_tells_spaces_from_the_edge_of_a_document() -> None:
    spaces = [Context(("a", "\n", word), (0.0, 1.0, 0.0), 1, 0) for word in "bcd"]
    edges = [Context((word,), (1.0,), 0, 0) for word in "bcd"]
    assert ProxyJudge().score(Question(MONOSEMANTICITY, spaces)) == 5
    assert ProxyJudge().score(Question(MONOSEMANTICITY, edges)) == 1
    assert monosemanticity([Context((gap,), (1.0,), 0, 0) for gap in ("\n", " ")]) == 0, "nor are all spaces one"


def test_the_proxy_weighs_contexts_by_activation() -> None:
    strong, weak = (Context(("a", "x"), (0.0, value), 1, 0, elsewhere) for value, elsewhere in ((3.0, 1.0), (1.0, 0.0)))
    assert complexity([strong, weak]) == pytest.approx((2 * 0.25) / 4), "D is 1/4, and both entropies are 0"
    one, other = (Context((word,), (value,), 0, 0, 1.0) for word, value in (("x", 3.0), ("y", 1.0)))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert complexity([one, other]) == pytest.approx(2 * entropy / 4)
    assert monosemanticity([one, other]) == pytest.approx((0.75 - 0.5) / 0.5)


def test_one_context_says_nothing() -> None:
    assert ProxyJudge().score(Question(COMPLEXITY, [CONTEXT])) is None


# Scores ----------------------------------------------------------------------------------------------------------------------------


class Counting:
    """A judge that answers as told, and counts."""

    name, proxy = "counting", False

    def __init__(self, *answers: int | str | None) -> None:
        self.answers, self.asked = list(answers), 0

    def score(self, question: Question) -> int | str | None:
        self.asked += 1
        return self.answers.pop(0)


def contexts(count: int) -> dict[int, list[Context]]:
    return {number: [Context((f"t{number}",), (1.0,), 0, 0)] for number in range(count)}


def test_refusals_and_nonsense_are_missing() -> None:
    made = judge_features(Counting(3, "Score: 2", None, "I will not.", 8), contexts(5))
    assert made["score"].tolist()[:2] == [3, 2] and made["score"].isna().tolist() == [False, False, True, True, True]
    assert made["answer"].tolist()[:2] == ["3", "Score: 2"] and made["answer"].tolist()[3] == "I will not."
    assert not made["proxy"].any() and set(made["judge"]) == {"counting"}


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        judge_features(Counting(1, None), contexts(5), cache=tmp_path)
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"key": "cut sh')
    second = Counting(3, 4, 5)
    made = judge_features(second, contexts(5), cache=tmp_path)
    assert second.asked == 3 and made["score"].fillna(0).tolist() == [1, 0, 3, 4, 5]
    third = Counting()
    assert judge_features(third, contexts(5), cache=tmp_path)["score"].fillna(0).tolist() == [1, 0, 3, 4, 5]
    assert third.asked == 0


def test_another_question_or_judge_is_asked_again(tmp_path: Path) -> None:
    judge_features(Counting(1), contexts(1), cache=tmp_path)
    assert judge_features(Counting(2), contexts(1), "monosemanticity", cache=tmp_path)["score"].tolist() == [2]
    other = Counting(3)
    other.name = "another"
    assert judge_features(other, contexts(1), cache=tmp_path)["score"].tolist() == [3]
    keyed = Counting(4)
    keyed.key = "counting with other settings"  # type: ignore[attr-defined]
    assert judge_features(keyed, contexts(1), cache=tmp_path)["score"].tolist() == [4]


def test_a_proxys_answers_are_computed_not_kept(tmp_path: Path) -> None:
    judge_features(ProxyJudge(), contexts(2), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_estimate_before_anything_is_asked(tmp_path: Path) -> None:
    asked = Counting(1)
    asked.answer_tokens = 16  # type: ignore[attr-defined]
    judge_features(asked, contexts(1), cache=tmp_path)
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
    made = judge_layers(ProxyJudge(), told)
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
    scores = judge_layers(ProxyJudge(), contexts_of([activations()], corpus(), None, [(0, f) for f in ALL]))
    table = matches(7).assign(mppc=[0.1, 0.9, 0.9, 0.15, np.nan, 0.05, 0.9])
    made = uninterpretable(table, scores)
    assert made["feature_a"].tolist() == [CLASS, ANYWHERE], "low and inconsistent; TOKEN is low but consistent"
    assert made["proxy"].all() and uninterpretable(table, scores, below=0.1)["feature_a"].tolist() == [CLASS]
    assert uninterpretable(table, scores, at_most=5)["feature_a"].tolist() == [CLASS, TOKEN, ANYWHERE]


def test_scores_do_not_multiply_rows() -> None:
    twice = pd.concat([matches(), matches()])
    scores = pd.DataFrame({"layer": 0, "feature": [TOKEN], "complexity": [1.0], "judge": "x", "proxy": False})
    assert len(with_scores(twice, scores)) == len(twice)
    with pytest.raises(pd.errors.MergeError):
        with_scores(matches(), pd.concat([scores, scores]))


# Figure 5 --------------------------------------------------------------------------------------------------------------------------


def scored(proxy: bool = False) -> pd.DataFrame:
    told = {"layer": 0, "feature": range(6), "complexity": [1, 1, 2, 2, 4, np.nan], "monosemanticity": [5, 5, 4, 1, 1, 1]}
    return pd.DataFrame(told).assign(judge="a judge", proxy=proxy)


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
    medians = [float(np.asarray(line.get_ydata())[0]) for line in left.lines if line.get_color() == "#111111"]
    assert medians[:2] == pytest.approx([0.8, 0.5])
    legend = left.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == list(variants)
    assert "proxy" not in left.get_title() and "a judge" in figure.get_supxlabel()


def test_figure_5_says_what_a_proxy_is() -> None:
    figure = figure5({"architecture": matches()}, scored(proxy=True))
    assert all("(proxy)" in ax.get_title() and "(proxy)" in ax.get_xlabel() for ax in figure.axes)
    assert "no judge read the text" in figure.get_supxlabel()


def test_figure_5_with_two_levels_and_without_scores() -> None:
    two = scored().rename(columns={"monosemanticity": "monosemantic"}).assign(complexity=np.nan)
    left, right = figure5({"mine": matches()}, two).axes
    assert right.get_xlabel() == "monosemantic"
    assert [text.get_text() for text in left.texts] == ["no feature was scored"]
    with pytest.raises(CircuitryError, match="figure 5 needs"):
        figure5({}, scored())


# Judges ----------------------------------------------------------------------------------------------------------------------------


def test_judges_by_name() -> None:
    assert judge("proxy").name == "proxy from activations"
    for wrong in ("gpt", "proxy:x", "local:", "endpoint"):
        with pytest.raises(CircuitryError, match=r"there is no judge .*endpoint:MODEL would do"):
            judge(wrong)


@pytest.fixture(scope="module")
def local() -> LocalJudge:
    return LocalJudge("bundled:mamba")


def test_a_local_judge_takes_the_most_probable_level(local: LocalJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(COMPLEXITY, [CONTEXT])
    found = local.probabilities(question)
    assert local.score(question) == max(found, key=lambda level: found[level])
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) > 0 and len(set(found.values())) == 5
    words = local.model.vocabulary
    [token] = words.encode("4")
    import torch

    ids = torch.tensor([[words.begin, *words.encode(f"{question.text}\nAnswer:")]])
    one, four = (local.model.hf(ids).logits[0, -1].softmax(-1)[words.encode(n)[0]].item() for n in ("1", "4"))
    assert found[4] / found[1] == pytest.approx(four / one, rel=1e-3)
    head = local.model.hf.get_output_embeddings()
    before = head.weight.detach().clone()
    with torch.no_grad():
        state = local.model.hf(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        head.weight[token] += 100 * torch.sign(state)
    try:
        assert local.score(question) == 4
    finally:
        with torch.no_grad():
            head.weight.copy_(before)


def test_a_local_judges_key_is_of_its_weights(local: LocalJudge) -> None:
    assert local.name == "bundled:mamba" and local.model.fingerprint in local.key and not local.proxy


def test_a_local_judge_says_what_it_cannot_read(local: LocalJudge) -> None:
    many = Rubric("many", "", dict.fromkeys(range(9, 13), ""))
    with pytest.raises(CircuitryError, match=r"not every one of 9, 10, 11, 12 is a single token of bundled:mamba"):
        local.score(Question(many, [CONTEXT]))
    with pytest.raises(CircuitryError, match="fewer or shorter contexts"):
        LocalJudge("bundled:gpt_neox").score(Question(COMPLEXITY, [CONTEXT] * 100))
    with pytest.raises(CircuitryError, match="has no tokenizer"):
        LocalJudge("compiled:mamba")


def test_a_local_judge_chats_where_the_tokenizer_has_a_template(local: LocalJudge) -> None:
    tokenizer = local.model.tokenizer
    tokenizer.chat_template = "<{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    try:
        ids = local._prompt("How many?")
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(ids) == "<How many?>"
