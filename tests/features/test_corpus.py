"""A corpus: its documents, which of its tokens are used, its parts and its file."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from circuitry.errors import CircuitryError
from circuitry.features.activations import Corpus, corpus
from circuitry.features.activations.corpus import special_ids
from support import tiny
from support.corpora import LONG, SOURCE, bundled, corpora, numbers

WORDS = st.lists(st.sampled_from(["Mary", "went", "to", "the", "store.", "<|endoftext|>", "Ünïcode"]), min_size=6, max_size=40)
TEXTS = st.lists(WORDS.map(" ".join).filter(lambda text: len(text) >= 20), min_size=1, max_size=6)


@settings(max_examples=40)
@given(TEXTS, st.integers(2, 40))
def test_documents_begin_with_the_first_token_are_cut_and_special_tokens_are_masked_by_id(texts: list[str], context: int) -> None:
    words = bundled().tokenizer
    made = corpus(words, texts, context=context, progress=False)
    expected = [[0, *words.encode(text, add_special_tokens=False)][:context] for text in texts]
    assert [made.ids[a:b].tolist() for a, b in itertools.pairwise(made.starts)] == expected
    assert (made.special == (made.ids == 0)).all() and made.tokens == int((made.ids != 0).sum())
    assert (made.used == np.flatnonzero(made.ids)).all()


def test_every_special_token_is_masked_and_nothing_is_put_first_where_there_is_no_such_token() -> None:
    vocabulary = {word: k for k, word in enumerate(["[U]", "[E]", "Mary", "and", "John"])}
    plain = Tokenizer(models.WordLevel(vocabulary, "[U]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="[E]", unk_token="[U]")
    words.add_tokens([AddedToken("[X]", special=True), AddedToken("[Y]", special=False)])  # named by nothing, but special
    made = corpus(words, ["Mary and [E] John [X] and [Y] unknown Mary"], progress=False)
    assert made.ids.tolist() == [2, 3, 1, 4, 5, 3, 6, 0, 2]
    assert np.flatnonzero(made.special).tolist() == [2, 4, 7]


def test_special_tokens_of_a_tokenizer_that_lists_no_added_ones() -> None:
    class Words(SimpleNamespace):
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [5]}

    words = Words(all_special_ids=[7, 3], bos_token_id=2, get_vocab=dict)
    assert special_ids(words) == [2, 3, 7]


def test_no_more_text_is_read_than_the_tokens_need() -> None:
    texts = iter([LONG] * 10_000)
    made = corpus(bundled(), texts, tokens=100, progress=False)
    assert made.tokens == 100 and made.source == "texts given in Python"
    assert len(list(texts)) > 9_000
    assert corpus(bundled(), [LONG], tokens=10**6, progress=False).tokens < 100


def test_a_document_is_no_longer_than_the_model_has_positions() -> None:
    texts = ["word " * 2000]
    assert [len(corpus(bundled(name), texts, progress=False).ids) for name in ("mamba", "gpt_neox")] == [1024, 512]
    assert len(corpus(bundled("gpt_neox").tokenizer, texts, progress=False).ids) == 1024


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: corpus(tiny.model("gpt2"), [LONG]), "has no tokenizer, so it cannot read text"),
        (lambda: corpus("bundled:mamba", [LONG]), "'bundled:mamba' has no tokenizer"),
        (lambda: corpus(bundled(), ["short"]), "texts given in Python: no document of 20 characters"),
        (lambda: corpus(bundled(), [LONG], context=1), "context must be at least 2, got 1"),
        (lambda: corpus(bundled(), [LONG], tokens=0), "tokens must be at least 1, got 0"),
        (lambda: numbers([3, 2]).take(0), "tokens must be at least 1, got 0"),
        (lambda: numbers([3, 2]).split(0.0), "one part would be empty"),
        (lambda: replace(numbers([3, 2]), starts=np.array([0, 5, 5])), "not empty"),
        (lambda: replace(numbers([3, 2]), starts=np.array([0, 4])), "cover all its ids"),
        (lambda: replace(numbers([3, 2]), special=np.zeros(4, bool)), "a mask of the same length"),
    ],
)
def test_a_corpus_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(CircuitryError, match=message):
        make()


@given(corpora(), st.integers(1, 130))
def test_the_first_tokens_are_cut_off_exactly(made: Corpus, tokens: int) -> None:
    taken = made.take(tokens)
    assert taken.tokens == min(tokens, made.tokens)
    assert (taken.ids == made.ids[: len(taken.ids)]).all() and (taken.special == made.special[: len(taken.ids)]).all()
    assert (taken.starts[:-1] == made.starts[: len(taken)]).all()
    assert taken is made or not taken.special[-1]


@given(corpora(), st.integers(0, 130))
def test_documents_are_passed_over_whole(made: Corpus, tokens: int) -> None:
    texts = [made.ids[begin:end].tolist() for begin, end in itertools.pairwise(made.starts)]
    used = [int((~made.special[begin:end]).sum()) for begin, end in itertools.pairwise(made.starts)]
    first = next((k for k in range(len(made)) if sum(used[:k]) >= tokens), None)
    if first is None:
        with pytest.raises(CircuitryError, match="so no document is left"):
            made.skip(tokens)
    else:
        assert made.skip(tokens).ids.tolist() == [i for text in texts[first:] for i in text]
        assert len(made.skip(tokens)) == len(made) - first


@given(corpora(), st.floats(0.05, 0.95))
def test_two_parts_make_the_whole(made: Corpus, share: float) -> None:
    if len(made) < 2:
        return
    first, second = made.split(share)
    assert 0 < len(first) < len(made) and len(first) + len(second) == len(made)
    others = [abs(int((~made.special[: made.starts[k]]).sum()) - share * made.tokens) for k in range(1, len(made))]
    assert abs(first.tokens - share * made.tokens) == min(others)
    assert np.concatenate([first.ids, second.ids]).tolist() == made.ids.tolist()
    assert np.concatenate([first.starts, len(first.ids) + second.starts[1:]]).tolist() == made.starts.tolist()
    assert np.concatenate([first.special, second.special]).tolist() == made.special.tolist()


def test_a_digest_tells_ids_documents_and_masks_apart() -> None:
    base = numbers([3, 2])
    others = [numbers([2, 3]), numbers([3, 2], {4}), replace(base, ids=base.ids + 1), base.take(4)]
    assert len({made.digest for made in (base, *others)}) == 5
    assert replace(base, ids=base.ids.copy()).digest == base.digest


def test_a_corpus_survives_a_file_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    made = corpus(bundled(), [LONG, SOURCE], progress=False)
    made.save(tmp_path / "corpus.safetensors")
    again = Corpus.load(tmp_path / "corpus.safetensors")
    assert repr(again) == repr(made) and again.tokenizer == made.tokenizer
    assert [str(values.dtype) for values in (again.ids, again.starts, again.special)] == ["int32", "int64", "bool"]
    assert [file.name for file in tmp_path.iterdir()] == ["corpus.safetensors"]
    raw = bytearray((tmp_path / "corpus.safetensors").read_bytes())
    raw[raw.rindex(made.ids[1:3].tobytes())] ^= 1
    (tmp_path / "changed").write_bytes(raw)
    with pytest.raises(CircuitryError, match=f"was changed: its tokens are not those of corpus {made.digest}"):
        Corpus.load(tmp_path / "changed")
    (tmp_path / "broken").write_bytes(b"x" * 99)
    for name in ("nowhere", "broken"):
        with pytest.raises(CircuitryError, match=f"{name} holds no corpus"):
            Corpus.load(tmp_path / name)
