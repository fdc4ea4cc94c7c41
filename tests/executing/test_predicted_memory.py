"""The predicted memory of a batch against the tensors that torch allocates and frees while it runs, as torch's profiler counts them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import circuitry as ct
from circuitry.executing.rows import executor as rows
from circuitry.executing.suffix import executor as suffix
from circuitry.executing.suffix.batches import counts
from circuitry.planning import METRICS, plan
from circuitry.planning.live import LiveSets
from circuitry.planning.values import Plan
from circuitry.prompting import Prompts
from support import tiny

LENGTH, COUNT = 40, 4
GREW = 2.5
"""Growth of a process that ``benchmarks/memory.py`` shows, in that of its tensors' predicted size: the C library keeps what is freed."""
WIDE: dict[str, dict[str, Any]] = {
    "gpt2": {"hidden_size": 128},
    "llama": {"hidden_size": 128, "intermediate_size": 256},
    "mixtral": {"hidden_size": 128, "intermediate_size": 256},
    "mamba": {"hidden_size": 128, "state_size": 16, "time_step_rank": 8},
    "jamba": {"hidden_size": 128, "intermediate_size": 256, "mamba_d_state": 16, "mamba_dt_rank": 8},
    "mamba2": {"hidden_size": 128, "num_heads": 4, "head_dim": 64, "state_size": 16, "chunk_size": 64},
    "rwkv": {"hidden_size": 128, "attention_hidden_size": 96, "intermediate_size": 256},
    "rwkv7": {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32},
    "recurrent_gemma": {"hidden_size": 128, "intermediate_size": 256, "lru_width": 192},
    "qwen3_next": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 48,
        "head_dim": 32,
    },
}
"""Wide enough that values outweigh indices."""
STREAM, STATES = "resid[{layer}] @ {position} -> logits", "ssm_state[{layer}] @ END -> logits"


def peak(run: Callable[[], Any]) -> int:
    """The most bytes of tensors at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())


def sweep(kind: str, path: str, dtype: torch.dtype, positions: tuple[str, ...]) -> tuple[ct.Model, Plan, Prompts]:
    model = tiny.model(kind, 4 if kind == "jamba" else 3, dtype, **WIDE[kind])
    clean = np.random.default_rng(0).integers(1, 60, (COUNT, LENGTH))
    corrupted, at = clean.copy(), LENGTH // 3
    corrupted[:, at] = (corrupted[:, at] + 1) % 61
    where = {"A": np.full(COUNT, at), "END": np.full(COUNT, LENGTH - 1)}
    prompts = Prompts(clean, corrupted, clean[:, at], corrupted[:, at], where, ("A",))
    named = {position: found.tolist() for position, found in where.items()}
    made = plan(path, model.graph, where=named, length=prompts.stops.tolist(), changed=prompts.differing, sweep=positions)
    return model, made, prompts


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan needs up to a few times ``_CACHE`` for each thread, however large a batch is; in models this small that would be most of it."""
    monkeypatch.setattr(sys.modules["circuitry.models.scan"], "_CACHE", 1 << 14)  # the package may have a function of that name


@pytest.mark.parametrize(
    ("kind", "path", "dtype"),
    [
        *((kind, STREAM, torch.float32) for kind in WIDE),
        *((kind, STREAM, torch.bfloat16) for kind in ("gpt2", "jamba", "qwen3_next")),
        ("mamba", STATES, torch.float32),
    ],
)
def test_a_batch_of_packed_tokens_has_no_more_than_predicted(kind: str, path: str, dtype: torch.dtype) -> None:
    model, made, prompts = sweep(kind, path, dtype, ("A", "A+1"))
    executor, metrics = suffix.Suffix(model, memory=1 << 40), [METRICS["logit"]]
    whole, of_jobs = counts(made, executor._jobs(made, prompts, 0), prompts, LiveSets(made.graph, prompts.length))
    predicted = executor._size(prompts, True).of(whole.sum(0) + of_jobs.sum((0, 1))) / GREW
    assert executor.cost(made, prompts, metrics).batches == 1
    assert predicted / 4 < peak(lambda: executor.run(made, prompts, metrics)) < predicted


@pytest.mark.parametrize("kind", WIDE)
def test_a_batch_of_whole_rows_has_no_more_than_predicted(kind: str) -> None:
    model, made, prompts = sweep(kind, STREAM, torch.float32, ("A", "A+1"))
    predicted = COUNT * (2 + len(made.cells)) * model.bytes_per_row(LENGTH) / GREW
    assert predicted / 4 < peak(lambda: rows.run_plan(model, made, prompts, [METRICS["logit"]], memory=1 << 40)) < predicted


def test_a_state_counts_once_for_each_run_that_computes_it() -> None:
    """Runs of one token each have as many states as long ones."""
    model, made, prompts = sweep("mamba", STATES, torch.float32, ())
    executor = suffix.Suffix(model, memory=1 << 40)
    _, of_jobs = counts(made, executor._jobs(made, prompts, 0)[: len(made.cells)], prompts, LiveSets(made.graph, prompts.length))
    tokens, states = of_jobs[:, 0].transpose(1, 0, 2)
    assert states[:, :-1].tolist() == np.triu(np.ones((3, 3), int)).tolist()
    assert tokens[:, :-1].tolist() == states[:, :-1].tolist()


@pytest.mark.parametrize("name", ["mamba", "mamba2", "rwkv", "gated_delta"])
def test_states_are_as_wide_in_half_precision(name: str) -> None:
    """They are added up in float32 (tests/models/test_half.py)."""
    one, half = (ct.load(f"bundled:{name}", dtype=dtype).bytes_per_state() for dtype in ("float32", "bfloat16"))
    assert one == half > 0
