"""A task as a user writes it in a file."""

from __future__ import annotations

OWN = """
import numpy as np
from circuitry.prompting import Prompts, TaskDefinition

def make(vocabulary, rng, *, examples, gap):
    clean = rng.choice(vocabulary.ordinary, (examples, gap + 2))
    clean[:, -1] = clean[:, 0]
    corrupted = clean.copy()
    corrupted[:, 0] = (clean[:, 0] + 1) % 90
    where = {"START": np.zeros(examples, int), "END": np.full(examples, gap + 1)}
    return Prompts(clean, corrupted, clean[:, 0], corrupted[:, 0], where, ("START",))

TASK = TaskDefinition("copy", "the first token again", make, ("START", "END"), ("START",), {"gap": 3})
"""
