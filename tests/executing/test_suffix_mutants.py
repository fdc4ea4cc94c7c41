"""A suffix executor that copies, holds or reads at the wrong place gives other numbers than the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from circuitry.executing import trace
from circuitry.executing.copies import ALL
from circuitry.executing.suffix import executor
from circuitry.executing.suffix.builder import Builder
from circuitry.executing.suffix.rows import Runs, positions_of
from circuitry.models.packed import Tokens
from support.breaking import PROMPTS, Mutants, check_noticed, into, wrap

Patch = pytest.MonkeyPatch
MUTANTS: Mutants = {}
mutant = into(MUTANTS)


# --- copies ----------------------------------------------------------------------------------------------------------------


@mutant("mamba", "ssm_in[1] @ B -> logits")
def takes_the_next_example(m: Patch) -> None:
    wrap(m, Builder, "_source", lambda rows, self, *_: rows - rows % self.runs.count + (rows + 1) % self.runs.count)


@mutant("gpt2", "mlp[0] @ B -> logits")
def writes_what_the_base_run_has(m: Patch) -> None:
    wrap(m, Builder, "_source", lambda rows, *_: rows % len(PROMPTS))


@mutant("gpt2", "mlp[0] @ A -> mlp[1] @ B -> logits")
def goes_on_from_the_row_after(m: Patch) -> None:
    wrap(m, Builder, "_source", lambda rows, self, write, leg: rows + 1 if leg.before is not None else rows)


@mutant("gpt2", "mlp[0] @ B -> logits")
def writes_at_the_next_token(m: Patch) -> None:
    def later(result: Any, self: Builder, at: Any, leg: Any, tokens: Tokens) -> Any:
        to = tokens.own(leg.rows, 1 + positions_of(at, self.runs.prompts)[leg.examples])
        return np.flatnonzero(to >= 0), to[to >= 0]

    wrap(m, Builder, "_written", later)


@mutant("gpt2", "head[0,1] @ B -> logits")
def writes_the_next_head(m: Patch) -> None:
    _change_copies(m, lambda copy: replace(copy, unit=np.where(copy.unit == ALL, ALL, (copy.unit + 1) % 2)))


@mutant("llama", "embed @ B -> logits freezing head[1,2]")
def holds_the_next_head(m: Patch) -> None:
    _change_copies(m, lambda copy: replace(copy, unit=np.where(copy.unit == ALL, ALL, (copy.unit + 1) % 4)))


@mutant("gpt2", "embed @ B -> logits freezing head[1,0]")
def holds_nothing(m: Patch) -> None:
    m.setattr(Builder, "_frozen", lambda *_: {})


@mutant("llama", "embed @ B -> logits freezing head[1,2], head[2,0].v")
def drops_one_hold(m: Patch) -> None:
    wrap(m, Builder, "_frozen", lambda held, *_: dict(list(held.items())[1:]))


@mutant("gpt2", "embed @ B -> logits freezing head[1,0]")
def holds_what_the_other_run_has(m: Patch) -> None:
    own, add_holds, count = Tokens.own, Builder._add_holds, len(PROMPTS)

    def of_other(self: Builder, leg: Any) -> None:
        with m.context() as inner:
            inner.setattr(Tokens, "own", lambda tokens, rows, at: own(tokens, rows + count * (rows < count), at))
            add_holds(self, leg)

    m.setattr(Builder, "_add_holds", of_other)


@mutant("gpt2", "resid[1] @ B -> (resid[1] @ B, mlp[1] @ B) -> logits")
def follows_legs_backwards(m: Patch) -> None:
    wrap(m, trace, "joined", lambda copies, *_: copies[::-1])


@mutant("mamba", "ssm_state[1] @ B -> logits")
def writes_the_state_of_the_next_call(m: Patch) -> None:
    wrap(m, Builder, "_spelled", lambda found, self, at, *_: (found[0], found[1] + 1) if str(at) == "B" else found)


def _change_copies(m: Patch, change: Callable[[Any], Any]) -> None:
    wrap(m, trace, "joined", lambda copies, *_: [change(copy) for copy in copies])


# --- readings --------------------------------------------------------------------------------------------------------------


@mutant("gpt2", "embed @ B -> mlp[1] @ B+1")
def reads_the_base_run_in_place_of_its_own(m: Patch) -> None:
    _change_reads(m, lambda read: replace(read, own=read.base))


@mutant("mamba", "embed @ A -> ssm_state[1] @ B")
def reads_the_next_run(m: Patch) -> None:
    _change_reads(m, lambda read: replace(read, own=np.roll(read.own, 1)))


@mutant("llama", "embed @ B -> head[1,2].q @ B+1")
def reads_the_next_head(m: Patch) -> None:
    _change_reads(m, lambda read: replace(read, unit=(read.unit + 1) % 4))


@mutant("gpt2", "embed @ B -> logits @ END-1")
def reads_one_token_later(m: Patch) -> None:
    wrap(m, Builder, "_spelled", lambda found, self, at, *_: (found[0], found[1] + 1) if str(at) == "END-1" else found)


@mutant("gpt2", "embed @ B -> logits")
def takes_the_foil_for_the_answer(m: Patch) -> None:
    wrap(m, executor.Suffix, "_columns", lambda columns, *_: torch.flip(columns, (1,)))


@mutant("gpt2", "embed -> logits")
def starts_after_the_first_token_that_differs(m: Patch) -> None:
    wrap(m, Runs, "_starts", lambda found, *_: (found[0] + 1, found[1]))


def _change_reads(m: Patch, change: Callable[[Any], Any]) -> None:
    wrap(m, Builder, "_reads", lambda reads, *_: [change(read) for read in reads])


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_noticed(*MUTANTS[name], monkeypatch)
