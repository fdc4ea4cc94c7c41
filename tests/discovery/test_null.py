"""Where nothing carries a preference, at most one run in twenty reports anything."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from circuitry.discovery.question import Question
from circuitry.discovery.result import Discovery
from support import asking

RUNS, EXAMPLES, VERIFIED = 80, 24, 12


@functools.cache
def halves() -> tuple[Question, Question]:
    question = asking.about(asking.small("gpt2"), examples=EXAMPLES)
    numbers = np.arange(EXAMPLES)
    return question.part(numbers[::2]), question.part(numbers[1::2])


def reports(seed: int, *, confirm: bool) -> bool:
    """Whether a run reports anything, if each example's answer and foil are exchanged at random.

    Some of the size of an example's effects is shared by all cells, as it is in a model.
    """
    rng = np.random.default_rng(seed)
    ranked, confirming = halves()
    cells = len(ranked.items), len(ranked.labels)
    sizes = rng.lognormal(0, 0.3, (EXAMPLES, 1, 1)) * (0.3 * rng.normal(size=cells) + rng.normal(size=(EXAMPLES, *cells)))
    effects = sizes * rng.choice([-1, 1], (EXAMPLES, 1, 1))
    ends = np.zeros(EXAMPLES), effects.sum((1, 2))
    on = confirming if confirm else ranked
    made = Discovery(ranked, on, "made", effects[ranked.numbers].astype(np.float32), {}, ends)
    exact = {cell: effects[on.numbers, *cell] for cell in made.cells(VERIFIED)}
    found = replace(made, exact=exact)
    return bool((found._tested["q"] < 0.05).any())


def test_shuffled_answers_are_seldom_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuitry.discovery.result.SHOWN", 1)  # a smaller table takes less time
    level = 0.05
    wrong = np.mean([reports(seed, confirm=True) for seed in range(RUNS)])
    same_prompts = np.mean([reports(seed, confirm=False) for seed in range(10)])
    assert wrong < level + 2 * (level * (1 - level) / RUNS) ** 0.5 < same_prompts


def test_what_is_found_is_what_is_significant() -> None:
    ranked, confirming = halves()
    effects = np.random.default_rng(0).normal(size=(EXAMPLES, len(ranked.items), len(ranked.labels)))
    effects[:, 2, 1] += 9.0
    scores = effects[ranked.numbers].astype(np.float32)
    made = Discovery(ranked, confirming, "made", scores, {}, (np.zeros(EXAMPLES), effects.sum((1, 2))))
    found = replace(made, exact={cell: effects[confirming.numbers, *cell] for cell in made.cells(VERIFIED)})
    assert found.found.iloc[0][["edge", "position"]].tolist() == list(made.name((2, 1)))
    assert len(found.found) == int((found._tested["q"] < 0.05).sum()) < VERIFIED
    assert made.found.empty
