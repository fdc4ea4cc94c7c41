"""What tests of ``patch`` share: a small task, and calls with little to write."""

from __future__ import annotations

from typing import Any

import circuitry as ct
from circuitry import PatchingTable
from circuitry.executing.rows.schedule import schedule
from circuitry.planning import Plan, plan
from support import agreement
from support.agreement import model, ragged

PROMPTS = ragged()
TASK = ct.task("induction", distance=8, examples=5, prefix=2)


def patched(path: str = "mlp[{layer}] @ B -> logits", kind: str = "gpt2", **options: Any) -> PatchingTable:
    return ct.patch(model(kind), options.pop("task", TASK), path, **{"lint": False, "baseline": 0, **options})


def effects(table: PatchingTable) -> Any:
    return table.frame["effect"].to_numpy()


def laid(path: str) -> tuple[Plan, Any]:
    made = plan(path, model("gpt2").graph, where=agreement.where(PROMPTS), length=PROMPTS.length)
    return made, schedule(made, made.cells, PROMPTS)
