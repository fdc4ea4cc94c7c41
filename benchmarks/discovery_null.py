"""How often a whole discovery reports anything where there is nothing to find.

    python benchmarks/discovery_null.py

Each run asks which edges of bundled:mamba carry the difference between answer and foil, but each example's answer and foil are
exchanged at random, so no edge has a mean effect. Edges are ranked on one half of the prompts and the best are patched on the
other. A run is wrong if any of them has q < 0.05; of all runs, 5 % may be. The interval is that of Clopper and Pearson. With
``--same-prompts`` the same is done with ``confirm=False``, where edges are chosen and tested on the same prompts. It takes some
minutes on one core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

import circuitry as ct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:mamba")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--verify", type=int, default=20)
    parser.add_argument("--same-prompts", action="store_true", help="also run with confirm=False")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="(?s).*nothing to explain here")
    start, model = time.process_time(), ct.load(args.model)
    for confirm in (True, False) if args.same_prompts else (True,):
        wrong = [bool(len(discovered(model, seed, confirm, args).found)) for seed in range(args.runs)]
        low, high = interval(sum(wrong), len(wrong))
        chosen = "other" if confirm else "the same"
        print(
            f"tested on {chosen} prompts: {sum(wrong)} of {len(wrong)} runs report an edge, {np.mean(wrong):.1%} "
            f"(95 % interval {low:.1%} to {high:.1%}); {time.process_time() - start:.0f} CPU seconds"
        )


def discovered(model: ct.Model, seed: int, confirm: bool, args: argparse.Namespace) -> Any:
    task = shuffled(ct.task("induction", distance=8, examples=args.examples, seed=seed), seed)
    return ct.discover(model, task, verify=args.verify, confirm=confirm, progress=False)


def shuffled(task: ct.Task, seed: int) -> ct.Task:
    """The task with each example's answer and foil exchanged at random."""
    definition = task.definition

    def make(*given: Any, **options: Any) -> Any:
        prompts = definition.make(*given, **options)
        exchanged = np.random.default_rng(seed).random(len(prompts)) < 0.5
        answer, foil = (np.where(exchanged, *pair) for pair in ((prompts.foil, prompts.answer), (prompts.answer, prompts.foil)))
        return replace(prompts, answer=answer, foil=foil)

    return replace(task, definition=replace(definition, make=make, copied=False))


def interval(wrong: int, runs: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate."""
    low = stats.beta.ppf(0.025, wrong, runs - wrong + 1) if wrong else 0.0
    high = stats.beta.ppf(0.975, wrong + 1, runs - wrong) if wrong < runs else 1.0
    return float(low), float(high)


if __name__ == "__main__":
    main()
