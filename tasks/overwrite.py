"""Induction with a newer pair: [A][C] ... [A][B] ... [A], where the model should answer [B] and not [C].

All other tokens are random and different. A memory that adds up what it stores has [B] and [C] under the key [A]; to answer, a model
must erase [C], or let it fade. ``distance`` is the number of tokens from one [A] to the next, ``prefix`` the number before the first
[A]. Corruption "B" replaces [B] by [B'], "A" the second [A] by [A'], so that [C] is the answer; "C" replaces [C] by [C'].
"""

import numpy as np

from circuitry.errors import TaskError, expected
from circuitry.prompting import Prompts, TaskDefinition


def make(vocabulary, rng, *, examples, distance, corruption, prefix):
    if distance < 2:
        raise TaskError(f"distance must be at least 2, to leave room for a token between two [A], got {distance}")
    if prefix < 0:
        raise TaskError(f"prefix must be at least 0, got {prefix}")
    if corruption not in ("A", "B", "C"):
        raise TaskError(expected("corruption 'A', 'B' or 'C' (the token that is replaced)", corruption))
    where = {"C": prefix + 1, "A": prefix + distance, "B": prefix + distance + 1, "END": prefix + 2 * distance}
    needed = where["END"] + 1
    if needed > len(vocabulary.ordinary):
        raise TaskError(f"distance {distance} needs {needed} different tokens; the model has {len(vocabulary.ordinary)}")
    clean = np.stack([rng.choice(vocabulary.ordinary, needed, replace=False) for _ in range(examples)])
    fresh = clean[:, -1].copy()
    clean[:, [where["A"], where["END"]]] = clean[:, [prefix]]
    corrupted = clean.copy()
    corrupted[:, where[corruption]] = fresh
    return Prompts(
        clean,
        corrupted,
        answer=clean[:, where["B"]],
        foil=fresh if corruption == "B" else clean[:, where["C"]],
        where={name: np.full(examples, at) for name, at in where.items()},
        changed=(corruption,),
    )


TASK = TaskDefinition(
    name="overwrite",
    description="[A][C] ... [A][B] ... [A] -> [B] on random tokens",
    make=make,
    positions=("C", "A", "B", "END"),
    sweep=("C", "A", "B", "B+1", "B+2", "END"),
    options={"distance": 16, "corruption": "A", "prefix": 7},
)
