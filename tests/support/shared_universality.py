"""One process of ``circuitry universality``; it notes the passes of models that it runs, and the files and layer pairs that it writes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from circuitry.executing import activations as executing
from circuitry.features.activations import forward
from circuitry.features.matching import neurons
from circuitry.features.matching.parts import Parts
from circuitry.features.matching.tiles import Tiles
from support.command import called

WORDS = ("door", "river", "school", "market", "tower", "harbour", "forest", "garden", "store", "bridge")


def words(folder: Path) -> list[str]:
    """The command, test-sized, on text that it writes; all its models are bundled."""
    file = folder / "text.jsonl"
    lines = [f"Mary went to the {a} and gave {n} books to John, who left the {b} at once." for n, a in enumerate(WORDS) for b in WORDS]
    file.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    size = "--tokens 512 --match-tokens 1200 --expansion 2 --min-count 2 --scored 10 -o batch=128".split()
    models = ["--models", "bundled:gpt_neox", "bundled:mamba"]
    return ["universality", *models, "--texts", str(file), "--out", str(folder / "runs"), *size]


def run(folder: Path) -> tuple[tuple[Any, str, str], dict[str, list[Any]]]:
    """What the command says (``called``), and what this process did: shapes of passes by what they were run for, files, layer pairs."""
    did: dict[str, list[Any]] = {"read": [], "neurons": [], "evaluated": [], "files": [], "tiles": []}

    def noting(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(model: Any, given: Any, ids: Any, *more: Any) -> Any:
            shape = list((given if kind == "evaluated" else ids).shape)
            if max(shape) > 2:  # else only widths are asked for
                did[kind].append([model.name, *shape])
            return real(model, given, ids, *more)

        return stand_in

    put_file, put_tile = Parts.put, Tiles.put

    def file(self: Parts, number: int, blocks: Any) -> None:
        did["files"].append(["/".join(self.folder.parts[-2:]), number])
        put_file(self, number, blocks)

    def tile(self: Tiles, pair: Any, found: Any) -> None:
        did["tiles"].append([self.folder.name if self.folder else "", *pair])
        put_tile(self, pair, found)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forward, "read", noting("read", forward.read))
        patched.setattr(neurons, "read_neurons", noting("neurons", neurons.read_neurons))
        patched.setattr(executing, "spliced", noting("evaluated", executing.spliced))
        patched.setattr(Parts, "put", file)
        patched.setattr(Tiles, "put", tile)
        return called(*words(folder)), did


if __name__ == "__main__":
    out = Path(sys.argv[1])
    said, did = run(out)
    (out / f"did-{os.environ['RANK']}.json").write_text(json.dumps({"said": said, "did": did}, default=str))
    sys.exit(said[0])
