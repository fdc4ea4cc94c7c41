"""Labels name the tokens from the first that differs to END, each by one name that means one token in every prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from circuitry.discovery.positions import ALL, REST, Labels, labels
from circuitry.paths.parse import parse
from circuitry.paths.positions import Position
from circuitry.prompting import Prompts
from support.random_paths import few


def made(rows: list[dict[str, Any]], length: int) -> Prompts:
    """Prompts that differ at the given tokens."""
    clean = np.zeros((len(rows), length), np.int64)
    corrupted = clean.copy()
    for row, at in enumerate(rows):
        corrupted[row, at["changed"]] = 1
    where = {name: np.array([at[name] for at in rows]) for name in ("A", "B", "END")}
    return Prompts(clean, corrupted, clean[:, 0], clean[:, 0] + 1, where, None)


@st.composite
def drawn(draw: st.DrawFn) -> Prompts:
    length = draw(st.integers(2, 8))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        end = draw(st.integers(1, length - 1))
        inside = st.integers(0, end)
        changed = draw(st.lists(inside, min_size=1, max_size=3))
        rows.append({"END": end, "A": draw(inside), "B": draw(inside), "changed": changed})
    return made(rows, length)


def needed(prompts: Prompts) -> Any:
    first = [min(np.flatnonzero(a != b)) for a, b in zip(prompts.clean, prompts.corrupted, strict=True)]
    return np.array(
        [[start <= k <= end for k in range(prompts.length)] for start, end in zip(first, prompts.where["END"], strict=True)]
    )


@few(150)
@given(drawn())
def test_labels_are_a_partition(prompts: Prompts) -> None:
    found = labels(prompts)
    assert (found.mask.sum(1) == needed(prompts)).all()
    assert found.mask.any((0, 2)).all() and len(set(found.names)) == len(found.names) == found.mask.shape[1]


@few(150)
@given(drawn())
def test_a_name_is_one_token_of_every_prompt(prompts: Prompts) -> None:
    found, must = labels(prompts), needed(prompts)
    for name, mask in zip(found.names, found.mask.swapaxes(0, 1), strict=True):
        if name == REST:
            assert name == found.names[-1]
            continue
        position = _position(name)
        token = prompts.where[str(position.base)] + position.offset
        assert ((token >= 0) & (token <= prompts.where["END"])).all()
        for row, at in enumerate(token):
            assert np.flatnonzero(mask[row]).tolist() == ([at] if must[row, at] else [])


def _position(name: str) -> Position:
    position = parse(f"embed @ {name} -> logits").sources[0].at
    assert isinstance(position, Position)
    return position


def test_positions_that_are_not_kept_apart_have_one_label() -> None:
    prompts = made([{"END": 3, "A": 0, "B": 1, "changed": [1]}, {"END": 2, "A": 0, "B": 1, "changed": [0]}], 5)
    found = labels(prompts, apart=False)
    assert found.names == (ALL,)
    assert found.mask[:, 0].tolist() == needed(prompts).tolist() == [[False, True, True, True, False], [True] * 3 + [False] * 2]


def test_a_token_without_a_name_in_every_prompt_is_the_rest() -> None:
    """The second prompt has one token more between B and END, which no name reaches in the first."""
    prompts = made([{"END": 3, "A": 0, "B": 1, "changed": [1]}, {"END": 4, "A": 0, "B": 1, "changed": [1]}], 5)
    found = labels(prompts)
    assert found.names == ("B", "B+1", "END", "rest")
    assert found.mask[1].argmax(-1).tolist() == [1, 2, 4, 3] and not found.mask[0, 3].any()


def test_sums_and_strongest_and_tokens() -> None:
    mask = np.zeros((2, 2, 4), bool)
    mask[:, 0, 1:3] = mask[0, 1, 3] = True
    some = Labels(("x", "y"), mask)
    values = np.array([[9, 1, -3, 5], [9, 4, 4, 7]], np.float32)
    assert some.gathered(values).tolist() == [[-2, 5], [8, 0]]
    assert some.strongest(values).tolist() == [[-3, 5], [4, 0]]
    assert some.tokens(np.array([False, True])).tolist() == [[False] * 3 + [True], [False] * 4]
    assert some.apart("x", "y").tolist() == [1, 2]
    assert some.take(np.array([1])).mask.shape == (1, 2, 4)
