"""How often a verdict on a claim is wrong, in trained models, where the truth is settled with many examples.

    python benchmarks/claims.py            # prints the tables of docs/claims.md

Each sweep is measured once on many prompts, which settle the normalized effect of every cell. Batches of these prompts, drawn at random, are
what checks with other seeds would draw. (Neighbours are not: the prompts of a task may be in the order of their templates.) In each batch, claims are decided whose bound lies at the settled effect, or some way to either side of
it: true claims and false ones. A bound at the effect itself is the hardest: the claim is true, and only "holds" is right. A claim on all
cells of a sweep, each between two bounds, is wrong if one of all its intervals is.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

import circuitry as ct
from circuitry.claims import Bound, Verdict
from circuitry.claims.intervals import ratios
from circuitry.claims.values import every

SWEEPS = (
    ("bundled:mamba", "induction", {"distance": 16}, "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state", "logit"),
    ("bundled:gpt_neox", "induction", {"distance": 16}, "head[{layer},{head}] @ END -> logits freezing head", "logit"),
    ("bundled:gpt_neox_s1", "induction", {"distance": 16}, "head[{layer},{head}] @ END -> logits freezing head", "logit"),
    ("bundled:rwkv", "induction", {"distance": 16}, "wkv_state[{layer}] @ B+3 -> logits freezing wkv_state", "logit"),
    ("bundled:mamba", "ioi", {}, "ssm_state[{layer}] @ END -> logits freezing ssm_state", "logit_difference"),
    ("bundled:gpt_neox", "ioi", {}, "head[{layer},{head}] @ END -> logits freezing head", "logit_difference"),
)
AWAY = (0.0, 0.02, 0.05, 0.1)
"""How far bounds lie from the settled effect, as a normalized effect."""


def batches(table: ct.PatchingTable, size: int, shuffles: int) -> Iterator[ct.PatchingTable]:
    """Random sets of examples, each as the table that a check with so many examples would measure. Sets of one shuffle are disjoint."""
    rng, count = np.random.default_rng(0), table.frame["example"].nunique()
    for _ in range(shuffles):
        number = rng.permutation(count)[table.frame["example"]] // size
        for batch in range(count // size):
            yield replace(table, frame=table.frame[number == batch].reset_index(drop=True))


def verdicts(table: ct.PatchingTable, settled: pd.Series, size: int, shuffles: int) -> Iterator[tuple[str, bool, Verdict]]:
    """What was claimed, whether it is true, and the verdict; for every batch and cell."""
    for part in batches(table, size, shuffles):
        for number, truth in enumerate(settled):
            cell = part.frame[
                np.logical_and.reduce([part.frame[axis] == value for axis, value in _cell(settled, number).items()])
            ]
            [one] = ratios(replace(part, frame=cell.reset_index(drop=True)), 0.95)
            for away in AWAY:
                yield f"one cell, {away:g} away", True, Bound(at_least=truth - away).decide(one.low, one.high, one.rounding)
                yield f"one cell, {away:g} away", True, Bound(at_most=truth + away).decide(one.low, one.high, one.rounding)
                if away:
                    yield f"one cell, {away:g} away", False, Bound(at_least=truth + away).decide(one.low, one.high, one.rounding)
                    yield f"one cell, {away:g} away", False, Bound(at_most=truth - away).decide(one.low, one.high, one.rounding)
        together = ratios(part, 0.95)
        for away in AWAY:
            true = [
                Bound(truth - away, truth + away).decide(e.low, e.high, e.rounding)
                for e, truth in zip(together, settled, strict=True)
            ]
            yield f"all cells, {away:g} away", True, every(true)


def _cell(settled: pd.Series, number: int) -> dict[str, object]:
    index = settled.index[number]
    return dict(zip(settled.index.names, index if isinstance(index, tuple) else (index,), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2048, help="prompts that settle the truth")
    parser.add_argument("--size", type=int, nargs="+", default=[16, 32, 64], help="examples of one check")
    parser.add_argument("--shuffles", type=int, default=1, help="how often the prompts are divided into batches")
    chosen = parser.parse_args()
    rows = []
    for model, task, options, path, metric in SWEEPS:
        posed = ct.task(task, examples=chosen.examples, **options)
        table = ct.patch(ct.load(model), posed, path, metric=metric, baseline=0, lint="prompts")
        settled = table.normalized()
        for size in chosen.size:
            counts: dict[str, Counter[str]] = {}
            for claim, true, verdict in verdicts(table, settled, size, chosen.shuffles):
                wrong = verdict is (Verdict.FAILS if true else Verdict.HOLDS)
                counts.setdefault(claim, Counter())[
                    "wrong" if wrong else "undecided" if verdict is Verdict.OPEN else "right"
                ] += 1
            rows += [{"model": model, "task": task, "n": size, "claim": claim, **count} for claim, count in counts.items()]
        right = table.provenance["top_1"]
        print(f"{model}, {task}: {len(settled)} cells, {chosen.examples} prompts, top-1 accuracy {right:.2f}", flush=True)
    frame = pd.DataFrame(rows).fillna(0)
    total = frame[["wrong", "undecided", "right"]].sum(axis=1)
    frame["checks"], frame["wrong %"], frame["undecided %"] = (
        total.astype(int),
        100 * frame["wrong"] / total,
        100 * frame["undecided"] / total,
    )
    shown = frame.drop(columns=["wrong", "undecided", "right"])
    for size, part in shown.groupby("n"):
        wide = part.assign(case=part["model"].str.removeprefix("bundled:") + " " + part["task"])
        print(f"\nn = {size}: wrong verdicts in per cent (in brackets: undecided)")
        cells = wide.apply(lambda row: f"{row['wrong %']:.1f} ({row['undecided %']:.0f})", axis=1)
        print(wide.assign(cells=cells).pivot(index="claim", columns="case", values="cells").to_markdown())


if __name__ == "__main__":
    main()
