"""Packed tokens that are too few, or that take the wrong token for another, give other numbers than the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from circuitry.executing.suffix import driver
from circuitry.executing.suffix.builder import Builder
from circuitry.models import attention, stretches
from circuitry.models.packed import Inside, Tokens
from circuitry.planning import live
from circuitry.planning.live import LiveSets
from support.breaking import PROMPTS, Mutants, check_noticed, into, wrap

Patch = pytest.MonkeyPatch
MUTANTS: Mutants = {}
mutant = into(MUTANTS)


# --- live sets -------------------------------------------------------------------------------------------------------------


def _change_live(m: Patch, change: Callable[[Any, int], int]) -> None:
    """Of each region other tokens."""
    wrap(m, LiveSets, "of", lambda one, *_: replace(one, tokens={at: change(at, bits) for at, bits in one.tokens.items()}))


def without_first(bits: int) -> int:
    return bits & (bits - 1)


def without_last(bits: int) -> int:
    return bits & ~(1 << (bits.bit_length() - 1))


@mutant("gpt2", "mlp[0] @ B -> logits")
def leaves_out_the_first_token_of_attention(m: Patch) -> None:
    _change_live(m, lambda region, bits: without_first(bits) if region.block.endswith("attn") else bits)


@mutant("gpt2", "mlp[0] @ B -> logits")
def leaves_out_the_last_token_of_mlps(m: Patch) -> None:
    _change_live(m, lambda region, bits: without_last(bits) if region.block.endswith("mlp") else bits)


@mutant("gpt2", "embed @ B -> logits")
def joins_one_layer_too_late(m: Patch) -> None:
    _change_live(m, lambda region, bits: 0 if region.layer == 0 else bits)


@mutant("mamba", "ssm_in[0] @ B -> logits")
def leaves_out_one_layer_of_several(m: Patch) -> None:
    _change_live(m, lambda region, bits: 0 if region.layer == 1 and region.block else bits)


@mutant("mamba", "ssm_in[1] @ B -> logits")
def scans_from_one_token_too_late(m: Patch) -> None:
    wrap(m, LiveSets, "of", lambda one, *_: replace(one, states={at: without_first(bits) for at, bits in one.states.items()}))


@mutant("rwkv", "wkv_state[1] @ B -> logits @ B+1")
def scans_to_one_token_too_early(m: Patch) -> None:
    """A state that is written at B is read at the next token, where the row must still be scanned."""
    wrap(m, Builder, "_scanned_in", lambda one, *_: replace(one, stop=np.where(one.rows < 6, one.stop, one.start + 1)))


@mutant("gpt2", "mlp[0] @ B -> logits")
def needs_one_token_less_than_it_does(m: Patch) -> None:
    m.setattr(live, "_met", live._met.__wrapped__)  # what it remembers is from before, and would outlive the mutant
    wrap(m, live, "_backwards", lambda bits, *_: without_first(bits) if bits.bit_count() > 1 else bits)


# --- packed tokens ---------------------------------------------------------------------------------------------------------


@mutant("mamba", "ssm_in[1] @ B+1 -> logits")
def enters_after_its_base_row_has_gone_on(m: Patch) -> None:
    def late(made: Any, *_: Any) -> Any:
        every = list(made)
        return [one for one in every if one.rows[0] == 0] + [one for one in every if one.rows[0] != 0]

    wrap(m, stretches, "steps", late)


@mutant("mamba", "ssm_in[1] @ B+1 -> logits")
def enters_from_nothing(m: Patch) -> None:
    _change_taken(m, lambda take: take * 0 - 1)


@mutant("mamba2", "ssm_in[1] @ B+1 -> logits")
def enters_the_state_of_the_next_example(m: Patch) -> None:
    _change_taken(m, lambda take: (take + 1) % len(PROMPTS))


@mutant("rwkv", "wkv_in[1] @ B+1 -> logits")
def enters_the_mean_of_the_next_example(m: Patch) -> None:
    enters_the_state_of_the_next_example(m)


def _change_taken(m: Patch, change: Callable[[Any], Any]) -> None:
    """Where a row begins, another state."""
    wrap(m, stretches, "_taken", lambda take, rows, *_: np.where(take == rows, take, change(take)))


@mutant("mamba", "ssm_state[1] @ B -> logits")
def forgets_what_is_carried_past_a_stop(m: Patch) -> None:
    wrap(m, stretches, "steps", lambda made, *_: [replace(one, keep=False) if hasattr(one, "keep") else one for one in made])


@mutant("mamba", "conv_in[1] @ B -> logits")
def lags_by_one_token_more(m: Patch) -> None:
    real = Tokens.back
    m.setattr(Tokens, "back", lambda self, lag: real(self, lag + 1))


@mutant("mamba", "conv_in[1] @ B -> logits")
def lags_into_nothing_where_its_row_begins(m: Patch) -> None:
    def own(self: Tokens, lag: int) -> Any:
        found = self.own(self.row, self.position - lag)
        return self.index(np.where(found >= 0, found, len(self)))

    m.setattr(Tokens, "back", own)


@mutant("rwkv", "wkv_in[0] @ B -> logits")
def shifts_into_nothing_where_its_row_begins(m: Patch) -> None:
    lags_into_nothing_where_its_row_begins(m)


@mutant("gpt2", "mlp[0] @ B -> logits")
def does_not_see_its_own_keys(m: Patch) -> None:
    real = attention._scores
    with_none: Callable[..., Any] = lambda q, k, inside: _without_own(m, real, q, k, inside)  # noqa: E731
    m.setattr(attention, "_scores", with_none)


@mutant("llama", "mlp[0] @ B -> logits")
def does_not_see_its_own_values(m: Patch) -> None:
    real = attention._mixed
    m.setattr(attention, "_mixed", lambda pattern, v, inside: _without_own(m, real, pattern, v, inside))


def _without_own(m: Patch, real: Callable[..., Any], one: Any, other: Any, inside: Inside) -> Any:
    with m.context() as inner:
        inner.setattr(attention, "_short", lambda _: [])
        inner.setattr(attention, "_long", lambda _: [])
        return real(one, other, inside)


@mutant("gpt2", "mlp[0] @ B -> logits")
def counts_what_it_replaces_as_well(m: Patch) -> None:
    wrap(m, attention, "_base", lambda base, *_: base[:0])


@mutant("mamba", "ssm_in[0] @ B -> logits @ B+1 freezing ssm_state[1]")
def reads_the_frozen_state_of_the_next_example(m: Patch) -> None:
    """As far as that has one."""

    def shifted(found: Any, *_: Any) -> Any:
        row, position, token = found
        return np.where(position < PROMPTS.where["B"].min() + 2, (row + 1) % len(PROMPTS), row), position, token

    wrap(m, stretches, "_readers", shifted)


@mutant("gpt2", "mlp[0] @ B -> logits")
def falls_back_on_the_other_run(m: Patch) -> None:
    def of(self: Tokens, rows: Any, positions: Any) -> Any:
        own, base = self.own(rows, positions), self.base[rows]
        return np.where(own >= 0, own, self.own(base + (rows >= 2 * len(PROMPTS)) * len(PROMPTS), positions))

    m.setattr(Tokens, "of", of)


@mutant("gpt2", "mlp[0] @ B -> logits")
def sees_the_token_after_its_own(m: Patch) -> None:
    m.setattr(
        attention, "_mask", lambda mask, inside: mask[0, 0, (inside.position + 1).clamp(max=inside.tokens.length - 1)][None, None]
    )


@mutant("gpt2", "mlp[0] @ B -> logits")
def gives_outputs_to_the_wrong_tokens(m: Patch) -> None:
    wrap(m, driver, "_inside", lambda one, *_: one if one.out is None else replace(one, out=one.out.roll(1)))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_noticed(*MUTANTS[name], monkeypatch)
