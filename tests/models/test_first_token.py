"""What stands in front of a text: what the tokenizer itself puts there, and what stands in where it puts nothing."""

from __future__ import annotations

from typing import Any

import pytest

import circuitry as ct
from circuitry.features.activations.corpus import corpus, special_ids
from circuitry.models import Vocabulary

WORDS = ("[UNK]", "<s>", "<|endoftext|>", "[gMASK]", "<sop>", "x", "Mary", "and", "John", "</s>")


def tokenizer(front: str = "", end: str = "", **special: str) -> Any:
    """Ten words, and a tokenizer that puts ``front`` before a text and ``end`` after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: at for at, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    used = [(word, ids[word]) for word in f"{front} {end}".split()]
    made.post_processor = processors.TemplateProcessing(single=f"{front} $A {end}".strip(), special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", **special)


@pytest.mark.parametrize(
    ("front", "end", "special", "expected"),
    [
        ("<s>", "", {"bos_token": "<s>"}, ["<s>"]),
        ("<s>", "</s>", {}, ["<s>"]),  # though <|endoftext|> is in the vocabulary, and nothing is called bos
        ("[gMASK] <sop>", "", {}, ["[gMASK]", "<sop>"]),
        ("", "</s>", {"bos_token": "<s>"}, ["<|endoftext|>"]),
        ("", "", {}, ["<|endoftext|>"]),
    ],
)
def test_the_tokenizer_says_what_stands_in_front(front: str, end: str, special: dict[str, str], expected: list[str]) -> None:
    made = tokenizer(front, end, **special)
    vocabulary = Vocabulary.of(made, len(WORDS))
    assert [WORDS[index] for index in vocabulary.front] == expected
    assert vocabulary.begin == vocabulary.front[0]
    if front:
        assert list(vocabulary.front) == made("Mary and John")["input_ids"][: len(expected)]


def test_an_unknown_x_is_not_taken_for_what_stands_in_front() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[U]": 0}, unk_token="[U]")), unk_token="[U]")
    assert plain("x")["input_ids"] == [0] == plain.all_special_ids
    assert Vocabulary.of(plain, 1).front == () and Vocabulary.of(plain, 1).begin is None


def test_the_bundled_models_begin_with_what_stood_between_documents() -> None:
    """Their tokenizer puts nothing in front, and they have seen no text without that token."""
    model = ct.load("bundled:mamba")
    assert model.tokenizer("x")["input_ids"] == model.vocabulary.encode("x")
    assert [model.vocabulary.decode(index) for index in model.vocabulary.front] == ["<|endoftext|>"]


def test_a_corpus_has_in_front_what_the_tokenizer_puts_there() -> None:
    made = tokenizer("[gMASK] <sop>")
    read = corpus(made, ["Mary and John and Mary and John"], progress=False)
    assert [WORDS[index] for index in read.ids[:3]] == ["[gMASK]", "<sop>", "Mary"]
    assert read.special[:3].tolist() == [True, True, False] and {3, 4} <= set(special_ids(made))


def test_ioi_has_in_front_all_that_the_tokenizer_puts_there(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = ct.load("bundled:mamba").vocabulary
    plain = ct.task("ioi", examples=4, begin="no").prompts(vocabulary)
    monkeypatch.setattr(Vocabulary, "front", (7, 0))
    for begin in ("auto", "yes"):
        prompts = ct.task("ioi", examples=4, begin=begin).prompts(vocabulary)
        assert (prompts.clean[:, :2] == [7, 0]).all() and (prompts.where["IO"] == plain.where["IO"] + 2).all()
        assert (prompts.clean[0, 2 : prompts.where["END"][0] + 1] == plain.clean[0, : plain.where["END"][0] + 1]).all()
