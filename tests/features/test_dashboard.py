"""Contexts of features whose reason to fire is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_array

import circuitry as ct
from circuitry.errors import CircuitryError
from circuitry.features.activations.corpus import Corpus
from circuitry.features.dashboard.contexts import profiles, top_contexts
from circuitry.features.dashboard.tokens import readable
from support.features_known import ALL, CLASS, PHRASE, SILENT, TOKEN, activations, corpus, known_contexts


def test_contexts_are_the_highest_activations_with_their_text() -> None:
    found = known_contexts()
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


def test_how_often_the_peaks_token_fires_elsewhere() -> None:
    found = known_contexts()
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
    with pytest.raises(CircuitryError, match="2360 used tokens, got 10"):
        top_contexts(csr_array((10, 3)), corpus(), None, [0])
    with pytest.raises(CircuitryError, match="features from 0 to 6, got 2 to 7"):
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


def test_lower_contexts_lie_around_their_quantile_and_apart_from_all_others() -> None:
    dense = activations().toarray()[:, CLASS]
    values = np.sort(dense[dense > 0])
    found = profiles(activations(), corpus(), None, [CLASS], lower=3, contexts=4)[CLASS]
    assert list(found.lower) == [0.9, 0.5, 0.1] and all(len(contexts) == 3 for contexts in found.lower.values())
    for level, contexts in found.lower.items():
        low, high = np.quantile(values, [level - 0.06, level + 0.06])
        assert all(low <= context.top <= high for context in contexts)
        for context in contexts:
            np.testing.assert_allclose(context.values, dense[context.start : context.start + 17], rtol=1e-6)
    everything = [*found.contexts, *(context for contexts in found.lower.values() for context in contexts)]
    rows = [row for context in everything for row in range(context.start, context.start + len(context.tokens))]
    assert len(rows) == len(set(rows)), "no token is shown twice"
    assert found.contexts == profiles(activations(), corpus(), None, [CLASS], contexts=4)[CLASS].contexts


def test_lower_contexts_are_drawn_by_seed() -> None:
    drawn = [profiles(activations(), corpus(), None, [CLASS], lower=3, seed=seed)[CLASS].lower for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert profiles(activations(), corpus(), None, [SILENT], lower=3)[SILENT].lower == {0.9: (), 0.5: (), 0.1: ()}


def test_lower_contexts_of_different_quantiles_do_not_overlap() -> None:
    text = Corpus(np.arange(100, dtype=np.int32), np.array([0, 100]), np.zeros(100, bool), "", "")
    values = np.random.default_rng(0).permutation(100)[:, None] + 1.0
    for seed in range(10):
        found = profiles(csr_array(values), text, None, [0], contexts=2, window=9, lower=2, seed=seed)[0]
        every = [*found.contexts, *(context for contexts in found.lower.values() for context in contexts)]
        rows = [row for context in every for row in range(context.start, context.start + 9)]
        assert len(rows) == len(set(rows))
