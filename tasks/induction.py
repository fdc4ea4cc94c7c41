"""Induction on random tokens: [A][B] ... [A], where the model should answer [B] (Olsson et al. 2022; the paper's section 6).

All other tokens are random and different, so only the earlier pair predicts the answer. ``distance`` is the number of tokens from
the first [A] to the second. ``prefix`` is the number of tokens before the first [A]. Corruption "B" replaces [B] by [B'],
corruption "A" the first [A] by [A'].
"""

import numpy as np

from circuitry.errors import TaskError, expected
from circuitry.prompting import Prompts, TaskDefinition


def make(vocabulary, rng, *, examples, distance, corruption, prefix):
    if distance < 2:
        raise TaskError(f"distance must be at least 2, to leave room for [B] between the two [A], got {distance}")
    if prefix < 0:
        raise TaskError(f"prefix must be at least 0, got {prefix}")
    if corruption not in ("A", "B"):
        raise TaskError(expected("corruption 'B' ([A][B'] ... [A]) or 'A' ([A'][B] ... [A])", corruption))
    needed = prefix + distance + 1
    if needed > len(vocabulary.ordinary):
        raise TaskError(f"distance {distance} needs {needed} different tokens; the model has {len(vocabulary.ordinary)}")
    drawn = np.stack([rng.choice(vocabulary.ordinary, needed, replace=False) for _ in range(examples)])
    clean = np.concatenate([drawn[:, :-1], drawn[:, prefix : prefix + 1]], axis=1)
    corrupted, changed = clean.copy(), prefix + (corruption == "B")
    corrupted[:, changed] = drawn[:, -1]
    where = {"A": prefix, "B": prefix + 1, "END": prefix + distance}
    return Prompts(
        clean,
        corrupted,
        answer=clean[:, prefix + 1],
        foil=drawn[:, -1],
        where={name: np.full(examples, at) for name, at in where.items()},
        changed=(corruption,),
    )


TASK = TaskDefinition(
    name="induction",
    description="[A][B] ... [A] -> [B] on random tokens",
    make=make,
    positions=("A", "B", "END"),
    sweep=("A", "B", "B+1", "B+2", "B+3", "B+4", "B+5"),
    options={"distance": 32, "corruption": "B", "prefix": 7},
)
