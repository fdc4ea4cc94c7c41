"""Interventions do what a hook on the stock module does."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError
from circuitry.executing.constants import constant_values
from circuitry.executing.rows import driver
from circuitry.executing.rows.executor import Rows
from circuitry.executing.rows.schedule import schedule
from circuitry.executing.suffix.executor import Suffix
from circuitry.planning import INTERVENTIONS as KNOWN
from circuitry.planning import Intervention, given, plan
from circuitry.planning.metrics import metric
from support import agreement
from support.agreement import model
from support.patching import PROMPTS, TASK, patched


def by_hooks(kind: str, node: str, values: Callable[[Tensor], Tensor], corrupted: bool = False) -> Tensor:
    """Logits at END with a node's value changed by a plain hook on the tap's module."""
    ours = model(kind)
    place = ours.graph.place(ours.graph.node(node))
    ids = torch.from_numpy(PROMPTS.corrupted if corrupted else PROMPTS.clean)
    handle = ours.hf.get_submodule(place.module).register_forward_hook(lambda _, __, out: values(out.clone()))
    try:
        with torch.no_grad():
            logits: Tensor = ours.hf(ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits[torch.arange(3), torch.from_numpy(PROMPTS.where["END"])]


def by_engine(
    kind: str, path: str, intervention: Any, memory: int = 1 << 30, opener: Callable[..., Any] = Suffix, **options: Any
) -> Any:
    """The metric on the patched run: the logit of every example's answer."""
    made = plan(
        path, model(kind).graph, where=agreement.where(PROMPTS), length=PROMPTS.length, intervention=intervention, **options
    )
    found = opener(model(kind), memory=memory).run(made, PROMPTS, [metric("logit")])[0]
    return (found.effect + found.base)[0]


def at(positions: str) -> tuple[Tensor, Tensor]:
    return torch.arange(3), torch.from_numpy(PROMPTS.where[positions])


def noting(seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def note(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    return note


def collected(kind: str, node: str) -> Tensor:
    """A node's value on the corrupted prompts."""
    seen: list[Tensor] = []
    by_hooks(kind, node, noting(seen), corrupted=True)
    return seen[0]


def mean_of(values: Tensor) -> Tensor:
    """The mean at every position over the prompts that reach it, by hand: padding counts for nothing."""
    ends = PROMPTS.where["END"]
    reached = [[e for e in range(len(ends)) if p <= ends[e]] for p in range(values.shape[1])]
    return torch.stack([values[there, p].mean(0) for p, there in enumerate(reached)])


def put(index: Any, new: Any) -> Callable[[Tensor], Tensor]:
    def change(value: Tensor) -> Tensor:
        value[index] = new
        return value

    return change


GIVEN = torch.linspace(-1, 1, 16, dtype=torch.float64)

HEAD = (slice(None), slice(None), 1)

INTERVENTIONS: dict[str, tuple[str, str, Any, Callable[[], Callable[[Tensor], Tensor]]]] = {
    "zero at a position": ("gpt2", "mlp[1] @ B", "zero", lambda: put(at("B"), 0)),
    "zero everywhere": ("llama", "mlp[1]", "zero", lambda: put(..., 0)),
    "zero one head": ("gpt2", "head[1,1]", "zero", lambda: put(HEAD, 0)),
    "mean at a position": (
        "gpt2",
        "mlp[1] @ B",
        "mean",
        lambda: put(at("B"), collected("gpt2", "mlp[1]")[at("B")].mean(0)),
    ),
    "mean everywhere": (
        "mamba",
        "ssm_in[1].delta",
        "mean",
        lambda: put(..., mean_of(collected("mamba", "ssm_in[1].delta"))),
    ),
    "mean of one head": ("gpt2", "head[1,1]", "mean", lambda: put(HEAD, mean_of(collected("gpt2", "head[1,1]"))[:, 1])),
    "given at a position": ("gpt2", "mlp[1] @ B", given(GIVEN), lambda: put(at("B"), GIVEN)),
    "given as a number": ("gpt2", "mlp[1] @ B", given(0.5), lambda: put(at("B"), 0.5)),
    "given at every position": (
        "llama",
        "mlp[1]",
        given(GIVEN + torch.arange(10)[:, None]),
        lambda: put(..., GIVEN + torch.arange(10)[:, None]),
    ),
}


@pytest.mark.parametrize("name", INTERVENTIONS)
@pytest.mark.parametrize("memory", (1, 1 << 30))
@pytest.mark.parametrize("opener", (Suffix, Rows))
def test_interventions_do_what_a_hook_does(opener: Callable[..., Any], name: str, memory: int) -> None:
    kind, site, intervention, change = INTERVENTIONS[name]
    logits = by_hooks(kind, site.split(" ")[0], change())
    wanted = logits.gather(-1, torch.from_numpy(PROMPTS.answer)[:, None])[:, 0]
    found = by_engine(kind, f"{site} -> logits", intervention, memory, opener)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    assert np.abs(found - by_engine(kind, f"{site} -> logits", "resample")).max() > 1e-3


def test_denoising_puts_clean_values_into_the_corrupted_run() -> None:
    seen: list[Tensor] = []
    by_hooks("gpt2", "mlp[1]", noting(seen))
    logits = by_hooks("gpt2", "mlp[1]", put(at("B"), seen[0][at("B")]), corrupted=True)
    wanted = logits.gather(-1, torch.from_numpy(PROMPTS.answer)[:, None])[:, 0]
    np.testing.assert_allclose(by_engine("gpt2", "mlp[1] @ B -> logits", "resample", direction="denoising"), wanted, atol=1e-10)


@pytest.mark.parametrize("intervention", ("zero", "mean", given(torch.full((32, 4), 0.25, dtype=torch.float64))), ids=str)
@pytest.mark.parametrize("site", ("ssm_state[0]", "ssm_state[0] @ B"))
def test_states_are_set_to_constants(intervention: Any, site: str) -> None:
    """A state has no module that holds all positions: its reader tells whether it was set."""
    ours = model("mamba")
    made = plan(f"{site} -> ssm_state[0].read", ours.graph, where=agreement.where(PROMPTS), length=10, intervention=intervention)
    states = plan("embed -> ssm_state[0]", ours.graph, where=agreement.where(PROMPTS), length=10)
    laid = schedule(states, states.cells, PROMPTS)
    corrupted = driver.run(ours, laid, PROMPTS)[0][torch.from_numpy(laid.reading.source)]
    value = torch.full((32, 4), 0.25, dtype=torch.float64)
    laid = schedule(made, made.cells, PROMPTS)
    constants = constant_values(ours, made, PROMPTS, 1 << 30)
    read = driver.run(ours, laid, PROMPTS, constants)[0][torch.from_numpy(laid.reading.rows[0])]
    where = at("B") if "@" in site else (slice(None), slice(None))
    wanted = {
        "zero": 0 * value,
        "mean": corrupted[where].mean(0) if "@" in site else mean_of(corrupted),
    }.get(intervention, value)
    assert (read[where] - wanted).abs().max() < 1e-12


def test_a_fifth_intervention_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name it is known to the planner, the executors, ``explain`` and the record of a table, and by its value as well."""
    negated = Intervention("negated", "its mean, negated", lambda source, _: -source.mean())
    wanted = by_hooks("gpt2", "mlp[1]", put(at("B"), -collected("gpt2", "mlp[1]")[at("B")].mean(0)))
    wanted = wanted.gather(-1, torch.from_numpy(PROMPTS.answer)[:, None])[:, 0]
    np.testing.assert_allclose(by_engine("gpt2", "mlp[1] @ B -> logits", negated), wanted, atol=1e-10)
    monkeypatch.setitem(KNOWN, "negated", negated)
    np.testing.assert_allclose(by_engine("gpt2", "mlp[1] @ B -> logits", "negated"), wanted, atol=1e-10)
    provenance = patched("mlp[1] @ B -> logits", intervention="negated").provenance
    assert (provenance["intervention"], provenance["source_becomes"]) == ("negated", "its mean, negated")
    assert "  value      its mean, negated\n" in provenance["plan"]


def test_an_intervention_of_a_value_says_which_in_what_is_saved() -> None:
    steered = Intervention("doubled", "a multiple of its mean", lambda source, by: by * source.mean(), needs_value=True)
    doubled = by_engine("gpt2", "mlp[1] @ B -> logits", steered.of(2.0))
    wanted = by_hooks("gpt2", "mlp[1]", put(at("B"), 2 * collected("gpt2", "mlp[1]")[at("B")].mean(0)))
    np.testing.assert_allclose(doubled, wanted.gather(-1, torch.from_numpy(PROMPTS.answer)[:, None])[:, 0], atol=1e-10)
    assert str(steered.of(2.0)) == "doubled(2.0)"
    one, other, again = (str(given(GIVEN + by)) for by in (0, 1, 0))
    assert one == again != other and one.startswith("given(16 ")
    with pytest.raises(CircuitryError, match=r"^intervention 'doubled' needs a value"):
        by_engine("gpt2", "mlp[1] @ B -> logits", steered)
    with pytest.raises(CircuitryError, match=r"^intervention 'zero' takes no value; use ct.given\(2\)$"):
        KNOWN["zero"].of(2)


NO_NUMBERS = {
    "complex numbers": "complex numbers in place; expected real ones; .real, .imag or .abs() makes them",
    "truth values": "truth values in place; expected numbers; .double() makes them",
    "plain": "a tensor that is sparse, nested, quantised or without values in place; expected a plain one",
    "large": "a number that no tensor can hold in place; expected a number, or a tensor of the node's shape",
}
ONES = torch.ones(16)


@pytest.mark.parametrize("asked", (ct.patch, ct.explain))
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (ONES.to(torch.complex64), "complex numbers"),
        (1j, "complex numbers"),
        (np.complex64(1), "complex numbers"),
        (ONES.bool(), "truth values"),
        (True, "truth values"),
        (np.bool_(True), "truth values"),
        (ONES.to_sparse(), "plain"),
        (ONES.to("meta"), "plain"),
        (10**400, "large"),
    ],
)
def test_what_is_no_real_number_is_refused_by_name(asked: Callable[..., Any], value: Any, why: str) -> None:
    with pytest.raises(CircuitryError) as found:
        asked(model("gpt2"), TASK, "mlp[1] @ B -> logits", intervention=given(value), lint=False)
    assert str(found.value) == f"'given' puts {NO_NUMBERS[why]}"


@pytest.mark.parametrize(
    ("value", "what"),
    [("x", "str"), ([[1], [1, 2]], "list"), (np.array([None]), "ndarray"), (Fraction(1, 2), "Fraction"), (lambda: 1, "function")],
)
def test_what_is_no_number_at_all_is_refused_by_its_type(value: Any, what: str) -> None:
    with pytest.raises(
        CircuitryError, match=rf"^'given' puts {what} in place; expected a number, or a tensor of the node's shape$"
    ):
        ct.patch(model("gpt2"), TASK, "mlp[1] @ B -> logits", intervention=given(value), lint=False)


@pytest.mark.parametrize(
    "value",
    [np.ones(16), np.ones(16, np.uint16), [1] * 16, np.float32(1), torch.nn.Parameter(ONES), ONES.to(torch.float8_e4m3fn)],
)
def test_numbers_of_every_kind_are_taken(value: Any) -> None:
    wanted, found = (by_engine("gpt2", "mlp[1] @ B -> logits", given(one)) for one in (1, value))
    np.testing.assert_allclose(found, wanted, atol=1e-10)
