"""Small runs with a page to explore, made once for all tests of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

import circuitry as ct
from circuitry.suites.runner import run

from .command import circuitry
from .no_pictures import no_pictures
from .prompt_tables import written
from .short_discovery import shorten


@cache
def discovery(name: str = "bundled:gpt_neox") -> Path:
    """A discovery of induction with few prompts; its curve has two sizes."""
    out = Path(mkdtemp()) / "found"
    with pytest.MonkeyPatch.context() as patched:
        shorten(patched)
        task = ct.task("induction", distance=4, examples=12)
        ct.discover(ct.load(name), task, method="eap", verify=8, edges=30, out=out, progress=False)
    return out


@cache
def suite(name: str = "bundled:gpt_neox") -> Path:
    """A run of the induction suite at two distances; its circuit is drawn at the second."""
    found = run("induction", ct.load(name), distances=[7, 8], distance=8, examples=12, out=mkdtemp(), baseline=0)
    return Path(found.record["folder"])


SENTENCES = [
    ("Mary", "John", "Tom", "Alice", "store", "drink"),
    ("Peter", "Sarah", "Emma", "David", "school", "book"),
    ("James", "Emma", "Sarah", "Henry", "store", "ring"),
    ("David", "Laura", "John", "Peter", "park", "drink"),
    ("Emma", "Peter", "Mary", "Robert", "garden", "letter"),
    ("Sarah", "Tom", "Laura", "James", "store", "drink"),
    ("Henry", "Mary", "Tom", "Sarah", "school", "book"),
    ("Robert", "Alice", "James", "David", "store", "ring"),
]
"""Two names, the two of the corrupted prompt, a place and a thing."""


@cache
def custom(name: str = "bundled:gpt_neox") -> Path:
    """A run of the command line on a table of prompts with the positions IO and S2; the table is beside the folder of runs."""
    at = Path(mkdtemp())
    rows = [
        (*(f"Then, {x} and {y} went to the {place}. {y} gave a {thing} to" for x, y in ((a, b), (c, d))), f" {a}", f" {b}", a, f"{b}#2")
        for a, b, c, d, place, thing in SENTENCES
    ]  # fmt: skip
    written(at / "names.csv", rows)
    with pytest.MonkeyPatch.context() as patched, no_pictures():
        patched.chdir(at)
        circuitry("run", "names.csv", "--model", name, "--out", "runs")
    return at / "runs" / f"names-{name.removeprefix('bundled:')}"
