"""Whole rows have logits only where they are read: one position a row, whatever the ENDs of a batch are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from circuitry.executing.rows.executor import Rows
from circuitry.planning import METRICS
from support.agreement import apart, model, planned, ragged

PROMPTS = ragged(5)


@pytest.mark.parametrize(
    ("path", "positions"),
    [
        ("mlp[0] @ B -> logits", 1),
        ("mlp[0] @ B -> (logits @ END, logits @ END-1)", 2),
        ("mlp[0] @ B -> mlp[1] @ B", 1),
    ],
)
@pytest.mark.parametrize("kind", ("gpt2", "llama", "gemma2"))
def test_a_row_has_logits_only_where_they_are_read(kind: str, path: str, positions: int) -> None:
    assert len(set(PROMPTS.where["END"].tolist())) > 2, "prompts end at several tokens"
    ours, shapes = model(kind), list[tuple[int, ...]]()

    def seen(_: Any, __: Any, logits: torch.Tensor) -> None:
        shapes.append(tuple(logits.shape))

    made = planned(ours, [path], PROMPTS)
    hook = ours.hf.get_output_embeddings().register_forward_hook(seen)
    try:
        Rows(ours, memory=1 << 30).run(made, PROMPTS, [METRICS["logit"]])
    finally:
        hook.remove()
    assert shapes[-1] == (15, positions, 61)
    assert apart(ours, made, PROMPTS, others=("rows", "reference")) < 1e-10


def test_an_error_inside_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model("gpt2")
    made = planned(ours, ["mlp[0] @ B -> logits"], PROMPTS)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("stopped")

    with monkeypatch.context() as context:
        context.setattr("circuitry.executing.rows.driver._visit", broken)
        with pytest.raises(Exception, match="stopped"):
            Rows(ours, memory=1 << 30).run(made, PROMPTS, [METRICS["logit"]])
    assert ours.hf.get_output_embeddings().circuitry_positions is None
    assert ours.hf(torch.arange(4)[None]).logits.shape == (1, 4, 61)
