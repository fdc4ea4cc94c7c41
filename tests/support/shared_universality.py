"""One process of ``circuitry universality``. It notes the passes of models that it runs, and what it writes; it may be killed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from circuitry import cli
from circuitry.executing import activations as executing
from circuitry.features.activations import forward
from circuitry.features.matching import neurons
from circuitry.features.matching.parts import Parts
from circuitry.features.matching.tiles import Tiles
from circuitry.studies.experiment.result import Universality
from circuitry.studies.experiment.run import _Run
from support.no_pictures import no_pictures

WORDS = ("door", "river", "school", "market", "tower", "harbour", "forest", "garden", "store", "bridge")
KILLED = 3
"""The layer pair that a process is about to write when it is killed."""


def text(folder: Path) -> Path:
    """A file with a hundred short documents."""
    file = folder / "text.jsonl"
    pairs = [(number, a, b) for number, a in enumerate(WORDS) for b in WORDS]
    lines = [f"Mary went to the {a} and gave {number} books to John, who left the {b} at once." for number, a, b in pairs]
    file.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    return file


def words(folder: Path, texts: Path) -> list[str]:
    """The command, test-sized."""
    size = [
        "--tokens",
        "512",
        "--match-tokens",
        "1200",
        "--expansion",
        "2",
        "--min-count",
        "2",
        "--scored",
        "5",
        "-o",
        "batch=128",
    ]
    models = ["--models", "bundled:gpt_neox", "bundled:mamba"]
    return ["universality", *models, "--texts", str(texts), "--out", str(folder / "runs"), *size]


def noted(folder: Path) -> list[Counter[tuple[Any, ...]]]:
    """What each process noted, in order of ranks: what it did, and how often."""
    files = sorted(folder.glob("did-*.jsonl"))
    return [Counter(tuple(json.loads(line)) for line in file.read_text().splitlines()) for file in files]


@contextmanager
def noting(folder: Path, kill: bool = False) -> Iterator[None]:
    """Note everything that this process does in the meantime: a line for each pass of a model, file, layer pair, page and result."""
    file = folder / f"did-{os.environ.get('RANK', '0')}.jsonl"
    did: Counter[str] = Counter()

    def note(kind: str, *what: object) -> None:
        did[kind] += 1
        with file.open("a") as out:
            print(json.dumps([kind, *what]), file=out)

    def passes(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(model: Any, first: Any, second: Any, *more: Any) -> Any:
            ids = first if kind == "evaluated" else second
            if max(ids.shape) > 2:  # else only widths are asked for
                note(kind, model.name, *ids.shape)
            return real(model, first, second, *more)

        return stand_in

    def calls(kind: str, real: Callable[..., Any], name: Callable[..., list[object]]) -> Callable[..., Any]:
        def stand_in(*given: Any) -> Any:
            if kill and kind == "tile" and did[kind] + 1 == KILLED:
                os._exit(9)
            made = real(*given)
            note(kind, *name(*given))
            return made

        return stand_in

    with pytest.MonkeyPatch.context() as patched, no_pictures():
        patched.setattr(forward, "read", passes("read", vars(forward)["read"]))
        patched.setattr(neurons, "read_neurons", passes("neurons", vars(neurons)["read_neurons"]))
        patched.setattr(executing, "spliced", passes("evaluated", executing.spliced))
        patched.setattr(Parts, "put", calls("file", Parts.put, lambda part, number, _: [*part.folder.parts[-2:], number]))
        patched.setattr(Tiles, "put", calls("tile", Tiles.put, lambda tiles, pair, _: [tiles.folder.name, *pair]))
        patched.setattr(_Run, "look", calls("look", _Run.look, lambda *_: []))
        patched.setattr(Universality, "save", calls("save", Universality.save, lambda *_: []))
        yield


if __name__ == "__main__":
    out, texts = map(Path, sys.argv[1:3])
    with noting(out, kill=(out / "kill").exists() and os.environ["RANK"] == "1"):
        sys.argv = ["circuitry", *words(out, texts)]
        cli.main()
