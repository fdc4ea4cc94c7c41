"""``patch`` as users call it: batches, guards, the reference, and what a mistake is answered."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError, GuardError
from circuitry.executing import places, trace
from circuitry.executing.copies import Copy
from circuitry.executing.memory import parse_memory
from circuitry.executing.rows import chunks, driver
from circuitry.executing.rows import guarded as rows_guarded
from circuitry.executing.rows import schedule as rows_schedule
from circuitry.executing.rows.executor import Rows
from circuitry.executing.rows.schedule import _Layout, schedule
from circuitry.executing.suffix import driver as suffix_driver
from circuitry.executing.suffix import guarded
from circuitry.executing.suffix.builder import Builder
from circuitry.executing.suffix.layout import of_site
from circuitry.planning import METRICS, plan
from circuitry.team import Team
from support import agreement, tiny
from support.agreement import both, model
from support.patching import PROMPTS, TASK, effects, laid, patched

# --- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "onnx"}, "no executor 'onnx'; known here: reference, rows, suffix"),
        ({"metric": "logits"}, "no metric 'logits'; did you mean 'logit'?"),
        ({"metric": 3}, "no metric 3; known here: foil_logit, kl, log_probability, logit, logit_difference, probability"),
        ({"intervention": "noise"}, "no intervention 'noise'; known here: given, mean, resample, zero"),
        ({"direction": "up"}, "expected direction 'noising' or 'denoising', got 'up'"),
        (
            {"intervention": "given"},
            "intervention 'given' needs a value: ct.given(2.0), or ct.given(a tensor of the node's shape)",
        ),
        (
            {"path": "mlp[0] @ B -> logits", "intervention": ct.given(torch.zeros(5, 16))},
            "'given' puts (5, 16) where mlp[0] @ B has shape (16,)",
        ),
        (
            {"path": "mlp[0] @ B -> logits", "intervention": ct.given("x")},
            "'given' puts str in place; expected a number, or a tensor of the node's shape",
        ),
        ({"executor": "reference", "intervention": "zero"}, "the reference can only resample, got intervention 'zero'"),
        ({"executor": ct.executor(verify=1), "intervention": "mean"}, "the reference can only resample, got intervention 'mean'"),
        ({"axes": {"layer": 7}}, "layer=7 is out of range; {layer} has values 0 to 2"),
        ({"axes": {"head": 0}}, "the path has no open axis 'head'; it has: layer"),
    ],
)
def test_a_wrong_option_says_what_would_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched(**options)
    assert str(found.value) == message


# --- batches ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(7, 7), ("7", 7), ("7B", 7), ("1k", 1024), ("2 KiB", 2048), ("512MiB", 512 << 20), ("1.5gb", 3 << 29), ("1T", 1 << 40)],
)
def test_amounts_of_memory(text: int | str, wanted: int) -> None:
    assert parse_memory(text) == wanted


@pytest.mark.parametrize("text", ("", "MB", ".", "1.", "1.2.3", "-1", "1 apple", "1MBit", "one", "1e3"))
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(CircuitryError, match="expected a number of bytes, or text such as '512MiB' or '2GB'"):
        parse_memory(text)


PATHS = (
    "mlp[{layer}] -> logits",
    "head[{layer},{head}] -> (mlp[2], resid[3])",
    "embed -> mlp[{layer}] -> logits",
    "embed -> head[{l},{h}].q @ {p}",
)


@given(st.sampled_from(PATHS), st.integers(1, 40), st.integers(1, 64), st.integers(0, 1 << 24))
@settings(max_examples=150)
def test_chunks_cover_every_cell_and_example_once(path: str, examples: int, length: int, memory: int) -> None:
    made = plan(path, model("gpt2").graph, sweep=("2", "3"))
    seen = np.zeros((len(made.cells), examples), int)
    row = model("gpt2").bytes_per_row(length)
    for cells, part in chunks.chunks(made, model("gpt2"), examples, length, memory):
        seen[np.ix_(cells, part)] += 1
        rows = len(part) * (2 + len(made.cells[0].passes) * len(cells))
        assert rows * row <= memory or (len(part), len(cells)) == (1, 1)
        assert len({made.cells[k].passes[-1].reads for k in cells}) == 1
    assert (seen == 1).all()


def test_of_several_processes_each_runs_its_batches() -> None:
    """A batch is one cell of one example here; without what the others send, the rest is not a number."""
    made, _ = laid("mlp[{layer}] @ B -> logits")
    shares = [
        Rows(model("gpt2"), memory=1, team=Team(rank, 2)).run(made, PROMPTS, [METRICS["logit"]])[0].effect for rank in (0, 1)
    ]
    assert (np.isnan(shares[0]) != np.isnan(shares[1])).all()
    whole = Rows(model("gpt2"), memory=1 << 30).run(made, PROMPTS, [METRICS["logit"]])[0].effect
    np.testing.assert_allclose(np.nansum(shares, 0), whole, atol=1e-10)


def test_memory_grows_with_the_prompt() -> None:
    for kind in ("gpt2", "llama", "mamba"):
        sizes = [model(kind).bytes_per_row(length) for length in (1, 10, 100)]
        assert 0 < sizes[0] < sizes[1] < sizes[2]


# --- guards ----------------------------------------------------------------------------------------------------------------


def test_a_module_that_is_never_called_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = tiny.stock("gpt2")
    hf.transformer.h[1].idle = torch.nn.Identity()
    ours = ct.load(hf, dtype="float64")
    _, batch = laid("mlp[0] @ B -> logits")
    (place, stop), copies = batch.copies.popitem()
    batch.copies[replace(place, module="transformer.h.1.idle"), stop] = copies
    order = {**places.execution_order(ours), ("transformer.h.1.idle", "output"): 5}
    monkeypatch.setattr(trace, "execution_order", lambda _: order)
    with pytest.raises(
        GuardError, match=r"^a place was never reached \('model.transformer.h.1.idle.output.i0' .*\); no result is reported$"
    ):
        driver.run(ours, batch, PROMPTS)


def test_a_position_that_is_never_reached_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan("embed -> ssm_state[1] @ B", model("mamba").graph, where=agreement.where(PROMPTS), length=10)
    monkeypatch.setattr(driver, "_stops", lambda *_: (2, 3, 4, 99))
    with warnings.catch_warnings(), pytest.raises(GuardError, match=r"^only . of 5 places were reached; no result is reported$"):
        warnings.simplefilter("ignore")  # nnsight's own, that the trace ended early
        driver.run(model("mamba"), schedule(made, made.cells, PROMPTS), PROMPTS)
    monkeypatch.undo()
    assert both(model("mamba"), "embed -> ssm_state[2]", PROMPTS)[0].error < 1e-10, "the model is as it was"


def test_a_place_that_no_pass_of_packed_tokens_reaches_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = tiny.stock("gpt2")
    hf.transformer.h[1].idle = torch.nn.Identity()
    ours, places_of = ct.load(hf, dtype="float64"), suffix_driver._visits
    order = {**places.execution_order(ours), ("transformer.h.1.idle", "output"): 5}
    monkeypatch.setattr(trace, "execution_order", lambda _: order)

    def elsewhere(*known: Any) -> Any:
        first, *others = places_of(*known)
        return [replace(first, call=(replace(first.call[0], module="transformer.h.1.idle"), None)), *others]

    monkeypatch.setattr(suffix_driver, "_visits", elsewhere)
    with pytest.raises(GuardError, match=r"^a place was never reached \('model.transformer.h.1.idle.*\); no result is reported$"):
        ct.patch(ours, TASK, "mlp[0] @ B -> logits", lint=False)


def test_a_call_that_no_pass_of_packed_tokens_makes_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "embed -> ssm_state[1] @ B"
    before = effects(patched(path, "mamba"))
    monkeypatch.setattr(suffix_driver, "_occurrence", lambda _, call: 0 if call[1] is None else 99)
    with (
        warnings.catch_warnings(),
        pytest.raises(GuardError, match=r"^only \d of \d places were reached; no result is reported$"),
    ):
        warnings.simplefilter("ignore")  # nnsight's own, that the trace ended early
        patched(path, "mamba")
    monkeypatch.undo()
    np.testing.assert_array_equal(effects(patched(path, "mamba")), before, "the model is as it was")


Source = Callable[[Any, Any, int], Any]
"""Another source of what is copied: of rows as they are, the base rows and how many examples there are."""


def broken(monkeypatch: pytest.MonkeyPatch, change: Source) -> None:
    """What is written comes from other rows, by every executor."""
    put, source = _Layout._put, Builder._source

    def of_rows(self: _Layout, place: Any, stop: Any, copy: Copy) -> None:
        base = np.repeat(self.base, len(copy.source) // len(self.base))
        put(self, place, stop, replace(copy, source=change(copy.source, base, len(self.base))))

    def of_runs(self: Builder, write: Any, leg: Any) -> Any:
        return change(source(self, write, leg), leg.examples, self.runs.count)

    monkeypatch.setattr(_Layout, "_put", of_rows)
    monkeypatch.setattr(Builder, "_source", of_runs)


BOTH = pytest.mark.parametrize("executor", ("suffix", "rows"))


@BOTH
def test_patching_nothing_must_change_nothing(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that come from another example are seen although the two inputs are the same."""
    if executor == "rows":
        broken(monkeypatch, lambda rows, base, count: np.roll(rows, 1))
    else:
        broken(monkeypatch, lambda rows, base, count: rows - rows % count + (rows + 1) % count)
    with pytest.raises(
        GuardError, match=r"^patching nothing does not give the unpatched run \(off by .* of the largest value\); no result"
    ):
        patched(executor=executor)


@BOTH
def test_patching_everything_must_give_the_other_run(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda rows, base, count: base)
    with pytest.raises(
        GuardError, match=r"^patching the whole input does not give the source run \(off by .* of the largest value\); no result"
    ):
        patched(executor=executor)


@BOTH
def test_numbers_that_are_none_are_no_result(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_guarded, "run", lambda *a: [torch.full_like(v, torch.nan) for v in driver.run(*a)])
    monkeypatch.setattr(guarded, "of_site", lambda *a: torch.full_like(of_site(*a), torch.nan))
    with pytest.raises(GuardError, match=r"off by nan of the largest value"):
        patched(executor=executor)


@BOTH
def test_guards_run_on_cells_of_every_target(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once more, where the whole input is patched: of rows by its effect on the logits, of packed tokens on the first target."""
    seen: list[Any] = []
    checked = guarded.check

    def run(ours: Any, batch: Any, prompts: Any) -> list[Tensor]:
        seen.append(batch.reading.sites)
        return driver.run(ours, batch, prompts)

    def check(ours: Any, reading: Any, values: Any) -> None:
        seen.append(reading.job.cell.passes[-1].reads)
        checked(ours, reading, values)

    monkeypatch.setattr(rows_guarded, "run", run)
    monkeypatch.setattr(guarded, "check", check)
    patched("embed -> mlp[{layer}]", executor=executor)
    assert len(seen) == 4 and {str(sites[0].node) for sites in seen} >= {"mlp[0]", "mlp[1]", "mlp[2]"}


def test_verify_passes_where_the_engines_agree() -> None:
    for path in ("head[{layer},{head}] @ B -> logits freezing mlp", "mlp[0] @ B -> logits @ {pos}"):
        np.testing.assert_array_equal(effects(patched(path, executor=ct.executor(verify=3))), effects(patched(path)))


def test_what_was_verified_stands_in_the_table_and_its_files(tmp_path: Path) -> None:
    made = patched("mlp[{layer}] @ B -> logits", executor=ct.executor(verify=2))
    said = made.provenance["verified"]
    assert re.fullmatch(r"2 of \d cells agree (exactly|within \de-\d+ \(relative\)) with the reference on 2 examples", said)
    assert said in repr(made) and said in made.caption() and said in made.to_markdown()
    made.to_json(tmp_path / "t.json")
    assert ct.PatchingTable.from_json(tmp_path / "t.json").provenance["verified"] == said
    plain = patched("mlp[{layer}] @ B -> logits")
    assert "verified" not in plain.provenance and "the reference" not in repr(plain)


@BOTH
def test_verify_refuses_what_the_reference_does_not_confirm(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze that was forgotten passes the guards, since patching nothing still changes nothing."""
    path = "mlp[0] @ B -> logits freezing head[1,0]"
    monkeypatch.setattr(rows_schedule, "units_frozen", lambda *_: {})
    monkeypatch.setattr(Builder, "_frozen", lambda *_: {})
    patched(path, executor=executor)
    with pytest.raises(
        GuardError, match=r"^executor \'\w+\' and the reference differ by .* \(relative\); no result is reported$"
    ):
        patched(path, executor=ct.executor(executor, verify=1))


@pytest.mark.parametrize("direction", ("noising", "denoising"))
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("gpt2", "head[0,{head}] @ {pos} -> logits freezing mlp"),
        ("llama", "mlp[{layer}] @ B -> logits @ {pos}"),
        ("mamba", "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"),
    ],
)
def test_the_reference_engine_gives_the_same_table(kind: str, path: str, direction: str) -> None:
    task = ct.task("induction", distance=5, examples=3, prefix=1)
    for name in ("logit", "kl"):
        options: dict[str, Any] = {"kind": kind, "task": task, "direction": direction, "metric": name, "axes": None}
        one, other = patched(path, **options), patched(path, executor="reference", **options)
        assert {**one.provenance, "executor": "reference"} == other.provenance and one.axes == other.axes
        axes = [*one.axes, "example"]
        assert one.frame[axes].equals(other.frame[axes])
        for column in ("effect", "base", "source"):
            np.testing.assert_allclose(one.frame[column], other.frame[column], atol=1e-10)
        assert one.frame["effect"].abs().max() > 1e-6
