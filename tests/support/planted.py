"""Activations made of a few known directions, for training SAEs on; run as a script, one process of a distributed training."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from circuitry.features.sae import SAE, Trained, train_sae
from circuitry.paths import Node, parse_node

CHUNK = 32


@dataclass(frozen=True)
class Planted:
    """A stream of sums of a few of ``features`` directions, plus an offset. Chunks of 32 tokens are drawn by their number."""

    nodes: tuple[str, ...] = ("resid[0]",)
    width: int = 8
    features: int = 12
    chance: float = 0.1
    batch: int = 64
    seed: int = 0
    offset: float = 0.0
    size: float = 1.0
    hold: int | None = None
    """Before this batch the stream stops until it is killed."""

    @property
    def widths(self) -> dict[Node, int]:
        return {parse_node(node): self.width for node in self.nodes}

    def directions(self, node: str) -> Tensor:
        """The truth [feature, width], of norm 1."""
        return normalize(torch.randn(self.features, self.width, generator=self._generator(self.nodes.index(node))), dim=1)

    def batches(self, start: int = 0) -> Iterator[dict[Node, Tensor]]:
        for number in itertools.count(start):
            if number == self.hold:
                time.sleep(3600)
            yield {parse_node(node): self.values(node, number) for node in self.nodes}

    def values(self, node: str, number: int) -> Tensor:
        """Batch ``number`` of a node."""
        chunks = self.batch // CHUNK
        return torch.cat([self._chunk(node, chunk) for chunk in range(number * chunks, (number + 1) * chunks)])

    def _chunk(self, node: str, number: int) -> Tensor:
        drawn = torch.rand(2, CHUNK, self.features, generator=self._generator(1000 + number))
        return ((drawn[0] < self.chance) * (1 + drawn[1]) @ self.directions(node) + self.offset) * self.size

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + number)


def recovered(sae: SAE, truth: Tensor) -> float:
    """Mean over true directions of the greatest cosine with a feature's."""
    return float((normalize(sae.W_dec.detach(), dim=1) @ truth.T).max(0).values.mean())


def weights(trained: Trained) -> dict[str, Tensor]:
    """All weights by node and name."""
    return {f"{node}.{name}": value.detach() for node, sae in trained.items() for name, value in sae.named_parameters()}


if __name__ == "__main__":
    folder, batch = Path(sys.argv[1]), int(sys.argv[2])
    given = dict(text.split("=") for text in sys.argv[3:])
    settings = {name: int(text) if text.isdigit() else text for name, text in given.items() if name != "hold"}
    stream = Planted(("resid[0]", "mlp[0]"), batch=batch, hold=int(given["hold"]) if "hold" in given else None)
    how: dict[str, Any] = {
        "tokens": 64 * 24,
        "features": 24,
        "measured": 128,
        "dead_after": 256,
        "save_every": 0.0,
    }
    done = train_sae(None, activations=stream, out=folder / "run", progress=False, **{**how, **settings})
    save_file(weights(done), folder / f"rank-{os.environ.get('RANK', '0')}.safetensors")
