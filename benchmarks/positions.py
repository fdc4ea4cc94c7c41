"""How many token positions a model computes for each token whose activations are used, in order and in shuffled batches.

    python benchmarks/positions.py

The text is Python's own documentation, tokenised for a bundled model. The model does not run: only the sizes of its inputs are
added up. The first token of every document is a position that is computed and not used.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import circuitry as ct
from circuitry.features.activations import activations, corpus
from circuitry.features.activations.forward import Forward
from circuitry.paths.values import Node


class Counting:
    """Reads zeros, and adds up the positions that a model would compute."""

    positions = 0

    def __call__(self, _: Any, nodes: Iterable[Node], ids: NDArray[np.int64]) -> dict[Node, Tensor]:
        self.positions += ids.size
        return {node: torch.zeros(*ids.shape, 1) for node in nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:gpt_neox")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--context", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--buffer", type=int, nargs="+", default=[256, 8192, 65536])
    args = parser.parse_args()
    model = ct.load(args.model)
    print(f"{'context':>8} {'documents':>10} {'buffer':>8} {'passes':>8} {'in order':>9} {'shuffled':>9}")
    for context in args.context:
        text = corpus(model, tokens=args.tokens, context=context)
        for buffer in args.buffer:
            found = activations(model, "resid[1]", corpus=text, batch=min(256, buffer), buffer=buffer)
            counted = [Counting(), Counting()]
            made = [Forward(model, found.nodes, text, buffer, 1 << 29, reader) for reader in counted]
            ordered, shuffled = (replace(found, origin=origin) for origin in made)
            for counter, origin in zip(counted, made, strict=True):
                _ = origin.passes
                counter.positions = 0
            list(ordered.in_order())
            list(itertools.islice(shuffled.batches(), text.tokens // found.batch))
            ratios = "".join(f"{counter.positions / text.tokens:>10.3f}" for counter in counted)
            print(f"{context:>8} {len(text):>10} {buffer:>8} {len(made[0].passes):>8}{ratios}")


if __name__ == "__main__":
    main()
