"""How often 95 % intervals over prompts hold the true agreement of two models, in simulated effects whose truth is known.

The true effects of 20 pairs in two models correlate with .6 on average; each is measured on 32 prompts, with noise.

    python benchmarks/causal_intervals.py
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from circuitry.studies.causal.agreement import MEASURES, Effects, agreement, by_prompts, ceiling


def simulated(noise: float, runs: int, pairs: int = 20, prompts: int = 32) -> dict[str, float]:
    """The share of intervals that hold the truth, by measure, and the mean ceiling; ``noise`` is that of one prompt, in standard deviations
    of the true effects."""
    rng, inside, ceilings = np.random.default_rng(0), np.zeros(len(MEASURES)), []
    for _ in range(runs):
        x = rng.normal(size=pairs)
        y = 0.6 * x + 0.8 * rng.normal(size=pairs)
        ours, theirs = (Effects(true[:, None] + noise * rng.normal(size=(pairs, prompts)), np.ones(prompts)) for true in (x, y))
        _, low, high = by_prompts(ours, theirs)
        true = agreement(x[None], y[None])[0]
        inside += (low <= true) & (true <= high)
        ceilings.append(ceiling(ours, theirs))
    return {"noise": noise, "ceiling": float(np.mean(ceilings)), **dict(zip(MEASURES, inside / runs, strict=True))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=150)
    asked = parser.parse_args()
    table = pd.DataFrame([simulated(noise, asked.runs) for noise in (0.5, 2.0, 6.0)])
    print(table.to_string(index=False, float_format="{:.2f}".format))
