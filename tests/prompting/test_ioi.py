"""The IOI task: what its prompts are made of, what each corruption changes, what it does where a tokenizer knows few words."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry import TaskError, content
from circuitry.models import Vocabulary
from circuitry.prompting import Prompts, lint
from support import tiny

MODELS = ("bundled:mamba", "bundled:gpt_neox")
ioi: Any = content.load("tasks", "ioi")
CORRUPTIONS = tuple(ioi.CORRUPTIONS)
NAMED = ("IO", "S1", "S2", "END")
SLOTS = {"place": "|".join(ioi.PLACES), "object": "|".join(ioi.OBJECTS)}
PATTERNS = [  # of a wording: which names stand where, and nothing else but known places and objects
    re.compile(re.sub(r"\{(\w)\}", r"(?P<\1>\\w+)", re.sub(r"\{(place|object)\}", lambda m: f"(?:{SLOTS[m[1]]})", wording)))
    for wording in ioi.WORDINGS
]

seeds = st.integers(0, 10_000)
corruptions, orders = st.sampled_from(CORRUPTIONS), st.sampled_from(("both", "ABBA", "BABA"))
templates, begins = st.integers(-1, len(ioi.WORDINGS) - 1), st.sampled_from(("auto", "yes", "no"))


@cache
def model(name: str = "bundled:mamba") -> ct.Model:
    return ct.load(name)


def made(vocabulary: Vocabulary | None = None, **options: Any) -> Prompts:
    return ct.task("ioi", **{"examples": 6, **options}).prompts(vocabulary or model().vocabulary)


def text(prompts: Prompts, row: int, which: str = "clean", start: int = 0) -> str:
    """The text of one prompt from a token on, without padding."""
    ids = getattr(prompts, which)[row, start : prompts.where["END"][row] + 1]
    return str(model().tokenizer.decode(ids))


def word(token: Any) -> str:
    return model().vocabulary.decode(int(token)).strip()


def at(prompts: Prompts, which: str, row: int) -> list[str]:
    """The words at IO, S1 and S2."""
    return [word(getattr(prompts, which)[row, prompts.where[name][row]]) for name in NAMED[:3]]


# --- the clean prompts -----------------------------------------------------------------------------------------------------


def test_there_are_enough_wordings_for_either_order() -> None:
    assert len(set(ioi.WORDINGS)) == len(ioi.WORDINGS) >= 15
    for wording in ioi.WORDINGS:
        slots = re.findall(r"\{(\w+)\}", wording)
        assert sorted(slots) == sorted(["A", "B", "S", "place", "object"]), wording
        assert slots.index("A") < slots.index("B") < slots.index("S"), wording
        assert not wording.endswith("}"), f"the answer follows a word, not a slot: {wording}"


def test_word_lists_have_no_word_twice() -> None:
    words = [*ioi.NAMES, *ioi.PLACES, *ioi.OBJECTS]
    assert len(set(words)) == len(words)


def test_the_first_wording_is_that_of_the_papers_figure() -> None:
    filled = ioi.WORDINGS[0].format(A="Brandon", B="Mark", S="Mark", place="hospital", object="computer")
    assert filled == "Then, Brandon and Mark went to the hospital. Mark gave a computer to"


@settings(max_examples=25)
@given(seeds, corruptions, orders, templates, begins)
def test_prompts_are_sentences_with_the_names_where_it_says(
    seed: int, corruption: str, order: str, template: int, begin: str
) -> None:
    prompts = made(seed=seed, corruption=corruption, order=order, template=template, begin=begin)
    start = begin != "no"
    assert len(prompts) == 6 and tuple(prompts.where) == NAMED
    for row in range(6):
        io, s1, s2 = at(prompts, "clean", row)
        matches = [p.fullmatch(text(prompts, row, start=start)) for p in PATTERNS]
        found = next(m for m in matches if m)
        assert template < 0 or matches[template], "a fixed wording is that one"
        first = prompts.where["IO"][row] < prompts.where["S1"][row]
        assert (found["A"], found["B"], found["S"]) == ((io, s1, s1) if first else (s1, io, s1))
        assert order == "both" or first == (order == "ABBA")
        assert s1 == s2 != io and {io, s1} <= set(ioi.NAMES)
        assert (word(prompts.answer[row]), word(prompts.foil[row])) == (io, s1)
        counts = Counter(text(prompts, row, start=start).replace(",", " ").replace(".", " ").split())
        assert (counts[io], counts[s1]) == (1, 2)
    if start:
        assert (prompts.clean[:, 0] == model().tokenizer.bos_token_id).all()
    else:
        assert (prompts.clean[:, 0] != model().tokenizer.bos_token_id).all()


@given(seeds, st.integers(1, 9))
def test_both_orders_take_turns(seed: int, examples: int) -> None:
    prompts = made(seed=seed, examples=examples)
    assert (prompts.where["IO"] < prompts.where["S1"]).sum() == (examples + 1) // 2


@given(seeds, orders)
def test_examples_of_one_length_stand_together_and_padding_is_after_end(seed: int, order: str) -> None:
    prompts = made(seed=seed, order=order, examples=12)
    ends = prompts.where["END"]
    assert (np.diff(ends) >= 0).all() and ends[-1] == prompts.length - 1
    after = np.arange(prompts.length) > ends[:, None]
    assert (prompts.clean[after] == prompts.clean[0, 0]).all() and (prompts.corrupted[after] == prompts.clean[0, 0]).all()
    assert not (prompts.clean[:, 1:][~after[:, 1:]] == prompts.clean[0, 0]).any(), "and nothing but padding is left away"
    few = prompts.take(slice(3)).trimmed()
    assert few.length == ends[2] + 1 and (few.clean == prompts.clean[:3, : few.length]).all()
    assert (few.corrupted == prompts.corrupted[:3, : few.length]).all() and (few.where["S2"] == prompts.where["S2"][:3]).all()


@settings(max_examples=20)
@given(seeds, st.integers(0, len(ioi.WORDINGS) - 1), st.sampled_from(("ABBA", "BABA")))
def test_a_fixed_wording_and_order_give_one_layout(seed: int, template: int, order: str) -> None:
    prompts = made(seed=seed, template=template, order=order)
    assert all(len(set(places)) == 1 for places in prompts.where.values())
    names = {int(prompts.where[name][0]) for name in NAMED[:3]}
    fillers = [c for c in range(prompts.length) if c not in names and len(set(prompts.clean[:, c])) > 1]
    assert len(fillers) <= 2, "only names, a place and an object differ"


def test_any_wording_means_all_of_them() -> None:
    prompts = made(examples=300)
    assert {k for row in range(300) for k, p in enumerate(PATTERNS) if p.fullmatch(text(prompts, row, start=1))} == set(
        range(len(PATTERNS))
    )


def test_same_seed_same_prompts() -> None:
    one, again, other = made(seed=3), made(seed=3), made(seed=4)
    assert (one.clean == again.clean).all() and (one.corrupted == again.corrupted).all()
    assert [text(one, k) for k in range(6)] != [text(other, k) for k in range(6)]
    more = made(seed=3, examples=9)
    assert {text(one, k) for k in range(6)} < {text(more, k) for k in range(9)}, "more examples add to the same ones"


# --- the corruptions -------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seeds, corruptions, orders)
def test_a_corruption_changes_what_it_says_and_nothing_else(seed: int, corruption: str, order: str) -> None:
    prompts = made(seed=seed, corruption=corruption, order=order)
    expected = {"all": NAMED[:3], "ABC": NAMED[:3], "s2_io_flip": ("S2",), "S": ("S1", "S2")}.get(corruption, (corruption,))
    assert prompts.changed == expected
    rows = np.arange(len(prompts))
    wanted = np.zeros(prompts.clean.shape, bool)
    for name in expected:
        wanted[rows, prompts.where[name]] = True
    assert ((prompts.clean != prompts.corrupted) == wanted).all()
    for row in range(len(prompts)):
        io, s, _ = at(prompts, "clean", row)
        now = at(prompts, "corrupted", row)
        new = {n for n in now if n not in (io, s)}
        assert new <= set(ioi.NAMES)
        if corruption == "all":
            assert now[1] == now[2] and len(new) == 2
        elif corruption == "ABC":
            assert len(new) == 3
        elif corruption == "s2_io_flip":
            assert now == [io, s, io]
        elif corruption == "S":
            assert now[0] == io and now[1] == now[2] and len(new) == 1
        else:
            assert len(new) == 1 and sum(a == b for a, b in zip(now, (io, s, s), strict=True)) == 2


@settings(max_examples=15)
@given(seeds)
def test_corruptions_share_their_clean_prompts_and_their_new_people(seed: int) -> None:
    by = {corruption: made(seed=seed, corruption=corruption) for corruption in CORRUPTIONS}
    assert all((p.clean == by["all"].clean).all() and (p.answer == by["all"].answer).all() for p in by.values())
    io, s = by["IO"].corrupted, by["S"].corrupted
    assert (np.where(io != by["IO"].clean, io, s) == by["all"].corrupted).all(), "all is IO and S at once"


# --- what it refuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "ABAB"}, "unknown order 'ABAB'; did you mean 'BABA'?"),
        ({"corruption": "io"}, "unknown corruption 'io'; known here: ABC, IO, S, S1, S2, all, s2_io_flip"),
        ({"corruption": "s2_flip"}, "unknown corruption 's2_flip'; did you mean 's2_io_flip'?"),
        ({"begin": "maybe"}, "expected auto, yes or no as begin, got 'maybe'"),
        ({"template": -2}, f"expected a template from 0 to {len(ioi.WORDINGS) - 1}, or -1 for any, got -2"),
        ({"template": 99}, f"expected a template from 0 to {len(ioi.WORDINGS) - 1}, or -1 for any, got 99"),
        ({"template": "0"}, "template='0': expected int, such as -1"),
    ],
)
def test_it_says_what_it_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError) as found:
        made(**options)
    assert str(found.value) == message


def test_the_linter_refuses_a_change_that_is_not_declared() -> None:
    prompts = made(corruption="S")
    with pytest.raises(TaskError, match=r"example 0: clean and corrupted differ at token \d+, which the task does not declare"):
        lint(replace(prompts, changed=("S2",)))
    with pytest.raises(TaskError, match="example 0: position S2 is after END, so the answer cannot depend on it"):
        lint(replace(prompts, where={**prompts.where, "S2": prompts.where["END"] + 1 - (np.arange(6) == 5)}))


# --- other vocabularies ----------------------------------------------------------------------------------------------------


def toy(words: str, unknown: bool = True) -> Vocabulary:
    """A tokenizer that knows these words and punctuation; the rest is [UNK], or letters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [] if unknown else [chr(c) for c in (*range(65, 91), *range(97, 123))]
    known = ["[UNK]", ".", ",", *letters, *(w for w in words.split() if w not in letters)]
    if unknown:
        whole = Tokenizer(models.WordLevel({w: k for k, w in enumerate(known)}, unk_token="[UNK]"))
    else:
        whole = Tokenizer(models.Unigram([(w, -1.0 if len(w) > 1 else -9.0) for w in known], unk_id=0))
        whole.decoder = decoders.Fuse()
    whole.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "removed") if not unknown else pre_tokenizers.Whitespace()
    return Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="[UNK]"), len(known))


ENGLISH = " ".join(re.findall(r"\w+", re.sub(r"\{\w+\}", "", " ".join(ioi.WORDINGS)))) + " a store park ring key"
TWELVE = "Mary John Tom James Sarah Peter Alice Robert Laura David Emma Henry"
ODD = "Quark Zebra Violet Magnet Tulip Copper Walnut Lagoon Pepper"


def test_only_names_that_are_single_tokens_are_used() -> None:
    vocabulary = toy(f"{ENGLISH} {TWELVE}")
    with warnings.catch_warnings(action="error"):
        prompts = made(vocabulary, examples=50)
    names = {vocabulary.decode(int(t)) for t in prompts.answer}
    assert names <= set(TWELVE.split()) and len(names) > 8
    assert not (prompts.clean == 0).any() and vocabulary.begin is None


def test_other_words_stand_in_where_names_are_few() -> None:
    vocabulary = toy(f"{ENGLISH} Mary John Tom {ODD} plain lower words")
    with pytest.warns(UserWarning, match="only 3 names are single tokens of this model, so other words are used for names"):
        prompts = made(vocabulary, examples=80)
    names = {vocabulary.decode(int(t)) for t in (*prompts.answer, *prompts.foil)}
    assert names == {*ODD.split(), "Mary", "John", "Tom"}, "capitalised words that the sentences do not use"


def test_plain_words_stand_in_where_nothing_looks_like_a_name() -> None:
    words = ODD.lower()
    vocabulary = toy(f"{ENGLISH} {words}")
    with pytest.warns(UserWarning, match="only 0 names are single tokens"):
        prompts = made(vocabulary, examples=80)
    assert {vocabulary.decode(int(t)) for t in prompts.answer} == set(words.split())


def test_too_few_words_of_any_kind_are_refused() -> None:
    with (
        pytest.warns(UserWarning, match="only 2 names"),
        pytest.raises(TaskError, match="IOI needs at least 8 words that are one token, for names; this model has 4"),
    ):
        made(toy(f"{ENGLISH} Mary John Quark Zebra"))


def test_places_and_objects_may_be_several_tokens_but_names_may_not() -> None:
    vocabulary = toy(" ".join({*ENGLISH.split(), *TWELVE.split()} - {"store", "park", "ring", "key"}), unknown=False)
    with pytest.warns(UserWarning) as caught:
        prompts = made(vocabulary, examples=30, template=0, order="ABBA")
    assert [str(w.message).split(" are ")[0] for w in caught] == ["only 0 places", "only 0 objects"]
    assert len(set(prompts.where["S2"])) > 1, "lengths differ within a wording"
    assert {vocabulary.decode(int(t)) for t in prompts.answer} <= set(TWELVE.split())


def test_a_tokenizer_that_runs_words_together_is_refused() -> None:
    class Swallowing(Vocabulary):
        def encode(self, text: str) -> list[int]:
            ids = super().encode(text)
            return ids if len(ids) < 5 else [token for token in ids if token != hidden]

    vocabulary = model().vocabulary
    hidden = vocabulary.single(["Mary"])["Mary"]
    with pytest.raises(TaskError, match=r"the tokenizer does not separate the names in '.* Mary .*': "):
        made(Swallowing(vocabulary.ordinary, vocabulary.tokenizer), examples=200)


def test_single_words_are_known_words_of_one_token() -> None:
    assert list(toy("a Mary John").single(["Mary", "Zoe", "John"])) == ["Mary", "John"]
    words = model().vocabulary.single([*ioi.NAMES, "Bartholomew"])
    assert "Bartholomew" not in words and len(words) > 80
    assert all(model().vocabulary.decode(token) == f" {name}" for name, token in words.items())


def test_a_text_begins_with_what_stands_between_documents() -> None:
    from transformers import PreTrainedTokenizerFast

    vocabulary = toy("a <|endoftext|> <|turn|>")
    chat: PreTrainedTokenizerFast = vocabulary.tokenizer
    chat.add_special_tokens({"bos_token": "<|turn|>"})
    assert vocabulary.begin == chat.convert_tokens_to_ids("<|endoftext|>") != chat.bos_token_id
    assert toy("a").begin is None and Vocabulary.of(None, 9).begin is None
    other = toy("a <s>")
    other.tokenizer.add_special_tokens({"bos_token": "<s>"})
    assert other.begin == other.tokenizer.bos_token_id is not None


def test_a_beginning_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(TaskError, match="no token that begins a text; use begin='no'"):
        made(toy(f"{ENGLISH} {TWELVE}"), begin="yes")


@given(seeds, corruptions, st.integers(16, 200))
def test_without_a_tokenizer_every_word_is_a_random_token(seed: int, corruption: str, size: int) -> None:
    vocabulary = Vocabulary(np.arange(10, 10 + size))
    prompts = made(vocabulary, seed=seed, corruption=corruption)
    assert np.isin(prompts.clean, vocabulary.ordinary).all() and np.isin(prompts.corrupted, vocabulary.ordinary).all()
    for row in range(len(prompts)):
        used = prompts.clean[row, : prompts.where["END"][row] + 1]
        assert (np.sum(used == prompts.answer[row]), np.sum(used == prompts.foil[row])) == (1, 2)
    again = made(vocabulary, seed=seed, corruption=corruption)
    assert (again.clean == prompts.clean).all()


def test_the_layout_without_a_tokenizer_is_that_of_the_words() -> None:
    prompts = made(Vocabulary.of(None, 100), template=0, order="ABBA")
    # Then , IO and S went to the place . S gave a object to
    assert {name: set(places.tolist()) for name, places in prompts.where.items()} == {
        "IO": {2},
        "S1": {4},
        "S2": {10},
        "END": {14},
    }
    with pytest.raises(TaskError, match="IOI needs at least 16 tokens, for names and other words; this model has 15"):
        made(Vocabulary.of(None, 15))


# --- models ----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def answers(name: str, prompts: Prompts) -> tuple[float, float]:
    """Top-1 accuracy, and the mean logit difference IO - S."""
    rows, end = np.arange(len(prompts)), prompts.where["END"]
    logits = model(name).hf(torch.from_numpy(prompts.clean), use_cache=False).logits[rows, end].numpy()
    right = (logits.argmax(-1) == prompts.answer).mean()
    return float(right), float((logits[rows, prompts.answer] - logits[rows, prompts.foil]).mean())


@pytest.mark.parametrize("order", ("ABBA", "BABA"))
@pytest.mark.parametrize("name", MODELS)
def test_the_bundled_models_do_it(name: str, order: str) -> None:
    accuracy, difference = answers(name, made(model(name).vocabulary, examples=64, order=order))
    assert accuracy > 0.8 and difference > 2


@pytest.mark.parametrize("name", MODELS)
def test_the_bundled_models_need_the_beginning(name: str) -> None:
    accuracy, _ = answers(name, made(model(name).vocabulary, examples=64, begin="no"))
    assert accuracy < 0.5


@pytest.mark.parametrize("name", MODELS)
def test_no_single_wording_turns_the_answer_round(name: str) -> None:
    """A wording on which the model prefers S would hide in the mean over all."""
    differences = [answers(name, made(model(name).vocabulary, examples=16, template=k))[1] for k in range(len(ioi.WORDINGS))]
    assert min(differences) > 0, dict(enumerate(differences))


@pytest.mark.parametrize("kind", ("gpt2", "mamba"))
def test_rows_of_several_lengths_are_patched_as_they_are_alone(kind: str) -> None:
    small = tiny.model(kind, layers=2)
    task = ct.task("ioi", examples=4)
    prompts = task.prompts(small.vocabulary)
    assert len(set(prompts.where["END"].tolist())) > 1
    node = {"gpt2": "mlp", "mamba": "ssm_in"}[kind]
    path = f"{node}[{{layer}}] @ {{position}} -> logits"
    table = ct.patch(small, task, path, executor=ct.executor(verify=4), lint=False)
    assert list(dict.fromkeys(table.frame["position"])) == ["IO", "IO+1", "S1", "S1+1", "S2", "END"]
    alone = small.hf(torch.from_numpy(prompts.take(slice(1)).trimmed().clean), use_cache=False).logits[0, -1]
    whole = small.hf(torch.from_numpy(prompts.clean), use_cache=False).logits[0, prompts.where["END"][0]]
    torch.testing.assert_close(alone, whole)
