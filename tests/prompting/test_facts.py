"""Greater-than, agreement and capitals: what their prompts are made of, for tokenizers that read words and years in several ways."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry import TaskError
from circuitry.prompting import Prompts
from support import tiny
from support.vocabularies import TASKS, agreement, capital, greater, spaced, vocabulary

seeds = st.integers(0, 1000)


def made(name: str, digits: str = r"\d", **options: Any) -> tuple[Prompts, list[tuple[str, str, str, str]]]:
    """Prompts, and (clean, corrupted, answer, foil) as text."""
    words = vocabulary(name, digits)
    prompts = ct.task(name, **{"examples": 12, **options}).prompts(words)
    ends = prompts.where["END"]
    sides = (
        [words.tokenizer.decode(row[: end + 1]) for row, end in zip(ids, ends, strict=True)]
        for ids in (prompts.clean, prompts.corrupted)
    )
    tokens = ([words.decode(int(token)) for token in ids] for ids in (prompts.answer, prompts.foil))
    return prompts, list(zip(*sides, *tokens, strict=True))


# --- all three -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_prompts_and_more_examples_add_to_them(name: str) -> None:
    (one, texts), (again, _), (_, more) = made(name), made(name), made(name, examples=30)
    assert (one.clean == again.clean).all() and (one.foil == again.foil).all()
    assert made(name, seed=1)[1] != texts == more[:12]
    assert len({row[0] for row in more}) == 30 or name == "agreement", "no prompt twice"
    assert len({(row[0], row[2]) for row in more}) == 30


@pytest.mark.parametrize("name", TASKS)
def test_the_answer_is_not_to_be_copied(name: str) -> None:
    assert not ct.task(name).definition.copied
    prompts, _ = made(name)
    differs = np.argwhere(prompts.clean != prompts.corrupted)
    changed = ct.task(name).definition.positions[0]
    assert prompts.changed == (changed,) and (differs[:, 1] == prompts.where[changed]).all() and len(differs) == 12


@pytest.mark.parametrize("name", TASKS)
def test_more_than_there_are_different_prompts_is_refused(name: str) -> None:
    with pytest.raises(TaskError, match=r"^examples must be at most \d+ for this model, .*, got 1000000$"):
        made(name, examples=1_000_000)


@pytest.mark.parametrize("name", TASKS)
def test_without_words_they_say_so(name: str) -> None:
    with pytest.raises(TaskError, match=r"the model was loaded without a tokenizer; give circuitry.load a tokenizer"):
        ct.task(name).prompts(tiny.model("gpt2").vocabulary)
    with pytest.raises(TaskError, match=r"that are one token|no token is its second half"):
        ct.task(name).prompts(spaced("a b c", r"\d{4}"))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", ("gpt2", "mamba", "jamba"))
def test_they_are_patched_on_every_kind_of_model(name: str, kind: str) -> None:
    words = vocabulary(name)
    model = ct.load(tiny.stock(kind, vocab=len(words.tokenizer)), dtype=torch.float64, tokenizer=words.tokenizer)
    path = "resid[{layer}] @ {position} -> logits"
    metrics = ["logit_difference", *ct.task(name).definition.metrics]
    table = ct.patch(
        model, ct.task(name, examples=3), path, metric=metrics, executor=ct.executor(verify=3), lint="prompts", baseline=2
    )
    whole = table.select("metric", "logit_difference").mean()
    first = ct.task(name).definition.positions[0]
    assert whole[0, first] != 0 and abs(whole.get((0, "END"), 0.0)) < 1e-12  # left out where the prompts do not differ


# --- capitals --------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds, st.integers(-1, len(capital.WORDINGS) - 1))
def test_a_capital_is_that_of_the_country(seed: int, template: int) -> None:
    prompts, texts = made("capital", seed=seed, template=template)
    words = vocabulary("capital")
    for row, (clean, corrupted, answer, foil) in enumerate(texts):
        at = prompts.where["COUNTRY"][row]
        one, other = (words.decode(int(ids[row, at])).strip() for ids in (prompts.clean, prompts.corrupted))
        wordings = [w for w in capital.WORDINGS if w.format(country=one) == clean]
        assert wordings and wordings[0].format(country=other) == corrupted and one != other
        assert template < 0 or wordings == [capital.WORDINGS[template]]
        assert (answer, foil) == (f" {capital.CAPITALS[one]}", f" {capital.CAPITALS[other]}")


def test_the_list_of_capitals_can_be_told_apart() -> None:
    assert len(set(capital.CAPITALS.values())) == len(capital.CAPITALS) > 60
    assert not set(capital.CAPITALS) & set(capital.CAPITALS.values())


def test_only_countries_of_one_token_are_asked_for() -> None:
    words = spaced(
        " ".join(re.findall("[A-Za-z]+", " ".join(capital.WORDINGS))) + " a France Paris Japan Tokyo Italy Rome Spain Madrid Peru"
    )
    prompts = ct.task("capital", examples=24).prompts(words)
    assert {words.decode(int(t)).strip() for t in prompts.answer} == {"Paris", "Tokyo", "Rome", "Madrid"}
    with pytest.raises(TaskError, match="examples must be at most 24 for this model, which has 4 countries as one token, got 25"):
        ct.task("capital", examples=25).prompts(words)
    with pytest.raises(TaskError, match="expected a template from 0 to 5, or -1 for any, got 6"):
        ct.task("capital", template=6).prompts(words)


# --- agreement -------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds, st.sampled_from(("opposite", "same", "any")), st.sampled_from(("be", "were", "have", "any")))
def test_the_verb_has_the_number_of_the_subject(seed: int, attractor: str, verb: str) -> None:
    prompts, texts = made("agreement", seed=seed, attractor=attractor, verb=verb)
    words = vocabulary("agreement")
    for row, (clean, _, answer, foil) in enumerate(texts):
        subject, between = (
            words.decode(int(prompts.clean[row, prompts.where[name][row]])).strip() for name in ("SUBJECT", "ATTRACTOR")
        )
        other = words.decode(int(prompts.corrupted[row, prompts.where["SUBJECT"][row]])).strip()
        many, many_between = subject.endswith("s"), between.endswith("s")
        assert {subject, other} == {subject.removesuffix("s"), subject.removesuffix("s") + "s"}
        assert subject.removesuffix("s") != between.removesuffix("s")
        pairs = [pair for name, pair in agreement.VERBS.items() if verb in (name, "any")]
        assert (foil.strip(), answer.strip())[:: 1 if many else -1] in pairs
        assert attractor == "any" or (many == many_between) == (attractor == "same")
        fitting = [w for w in agreement.WORDINGS if w[many_between].format(subject=subject, attractor=between) == clean]
        assert len(fitting) == 1
    assert all((prompts.where[a] < prompts.where[b]).all() for a, b in (("SUBJECT", "ATTRACTOR"), ("ATTRACTOR", "END")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attractor": "oposite"}, "unknown attractor 'oposite'; did you mean 'opposite'?"),
        ({"verb": "go"}, "unknown verb 'go'; known here: any, be, have, were"),
        ({"template": 6}, "expected a template from 0 to 5, or -1 for any, got 6"),
    ],
)
def test_agreement_says_what_it_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError) as found:
        made("agreement", **options)
    assert str(found.value) == message


# --- greater-than ----------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds, st.sampled_from((r"\d", r"\d\d")), st.integers(11, 19))
def test_the_answer_is_the_next_number_and_the_foil_the_one_before(seed: int, digits: str, century: int) -> None:
    _, texts = made("greater_than", digits, seed=seed, century=century)
    for clean, corrupted, answer, foil in texts:
        start, end = re.findall(rf"the year {century}(\d*)", clean)
        new, same = re.findall(rf"the year {century}(\d*)", corrupted)
        assert end == same == "" and len(start) == 2
        number = int(start[: len(answer)])
        assert (int(answer), int(foil)) == (number + 1, number - 1)
        lowest = {1: f"0{start[1]}", 2: "01"}[len(digits) // 2]
        assert new == lowest and int(foil) > int(lowest[: len(foil)]), "the foil is right after the corrupted year"


@pytest.mark.parametrize("digits", (r"\d", r"\d\d"))
def test_the_probability_difference_sums_over_all_that_is_right_and_wrong(digits: str) -> None:
    prompts, texts = made("greater_than", digits)
    words = vocabulary("greater_than", digits)
    logits = torch.randn(12, len(words.tokenizer), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    measure = greater.probability_difference(words)
    got = measure(logits, torch.from_numpy(prompts.answer), torch.from_numpy(prompts.foil))
    every = [(int(words.decode(t)), t) for t in range(len(words.tokenizer)) if re.fullmatch(digits, words.decode(t))]
    for row, (_, _, answer, foil) in enumerate(texts):
        p = logits[row].exp() / logits[row].exp().sum()
        expected = sum(p[t] for n, t in every if n >= int(answer)) - sum(p[t] for n, t in every if n <= int(foil))
        assert float(got[row]) == pytest.approx(float(expected), abs=1e-12)
    assert len(every) in (10, 100)


def test_years_that_are_read_in_threes_have_no_second_half() -> None:
    words = vocabulary("greater_than", r"\d{1,3}")
    with pytest.raises(TaskError, match="reads a year neither as two halves nor digit by digit, so no token is its second half"):
        ct.task("greater_than").prompts(words)
    with pytest.raises(TaskError, match="expected the first two digits of a year, 11 to 19, as century, got 20"):
        made("greater_than", century=20)


def test_the_bundled_models_read_years_digit_by_digit() -> None:
    vocabulary = ct.load("bundled:mamba").vocabulary
    prompts = ct.task("greater_than", examples=4).prompts(vocabulary)
    assert all(vocabulary.decode(int(token)).isdigit() for token in (*prompts.answer, *prompts.foil))
