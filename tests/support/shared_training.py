"""One process of a training on a model's activations; it notes the passes that it runs and the SAEs that it gets."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from circuitry.executing.activations import read
from circuitry.features.activations import Corpus, forward
from circuitry.features.sae import train_sae
from support import tiny
from support.planted import weights

NODES = ["resid[1]", "resid[2]", "mlp[0]"]


def corpus() -> Corpus:
    """Documents of odd lengths, the first token of each not used."""
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *rng.integers(2, 40, 23)])
    special = np.zeros(starts[-1], bool)
    special[starts[:-1]] = True
    return Corpus(rng.integers(0, 20, starts[-1]).astype(np.int32), starts, special, "random tokens", "")


def train(out: Path, stop: int | None = None, nodes: list[str] = NODES) -> list[tuple[int, ...]]:
    """Train, or stop in the middle of buffer ``stop``, and write the weights beside the folder; returns the sizes of passes."""
    ran: list[tuple[int, ...]] = []

    def counted(model: Any, nodes: Any, ids: Any) -> Any:
        if ids.size > 2:  # else only widths are asked for
            ran.append(ids.shape)
        if len(ran) == stop:
            raise KeyboardInterrupt
        return read(model, nodes, ids)

    vars(forward)["read"] = counted
    try:
        made = train_sae(
            tiny.model("gpt_neox"), nodes, corpus=corpus(), out=out, batch=32, buffer=128, tokens=2000, features=24, measured=64,
            save_every=0.0, progress=False, revive="resample", resample_every=320, dead_after=320,
        )  # fmt: skip
        save_file(weights(made), out.with_name(f"{out.name}-{os.environ.get('RANK', '0')}.safetensors"))
    finally:
        vars(forward)["read"] = read
    return ran


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    several = train(folder / "run", nodes=sys.argv[2].split())
    (folder / f"ran-{os.environ['RANK']}.json").write_text(json.dumps(several))
