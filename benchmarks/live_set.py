"""Draws the tokens and layers of a patched run that are computed, according to the planner: the picture of docs/architecture.md.

python benchmarks/live_set.py docs/images/live-set.svg
"""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

import circuitry as ct
from circuitry.planning import plan
from circuitry.planning.live import End, LiveSets
from circuitry.planning.regions import Region

LAYERS, TOKENS, END = 6, 14, 13
PANELS = (
    ("gpt2", "head[1,0] @ END -> logits freezing head", END, END),
    ("gpt2", "head[1,0] @ END -> head[4,1].q @ END freezing head", END, END),
    ("gpt2", "resid[2] @ 5 -> logits", 5, END),
    ("mamba", "ssm_state[1] @ 4 -> logits freezing ssm_state", 4, END),
)
"""Architecture, path, the token that is patched and the one that is read."""
COLOURS = ("#ffffff", "#d9d4c7", "#7fa7c9", "#c8553d")
WORDS = ("not computed", "only the stream", "one of two blocks", "every block")


def computed(name: str, path: str, source: int, target: int) -> np.ndarray:
    """[layer, token]: 0 for values of the base run, 1 for the stream alone, 2 with one of two blocks, 3 with every block."""
    graph = ct.graph(name, layer=LAYERS, **({"head": 2} if name == "gpt2" else {}))
    where = {"END": [END]}
    first = plan(path, graph, where=where, length=[TOKENS]).cells[0].passes[0]
    sources, targets = tuple(write.node for write in first.writes), tuple(site.node for site in first.reads)
    live = LiveSets(graph, TOKENS).of(first, [End(sources, source)], [End(targets, target)])
    grid = np.zeros((LAYERS, TOKENS), int)
    blocks = 2 if name == "gpt2" else 1
    for layer in range(LAYERS):
        for token in range(TOKENS):
            # Live tokens are bits of a number; a region is a layer's stream, or one of its blocks.
            if live.tokens.get(Region(layer), 0) >> token & 1:
                inside = sum(bits >> token & 1 for region, bits in live.tokens.items() if region.layer == layer and region.block)
                grid[layer, token] = 1 if not inside else 3 if inside == blocks else 2
    return grid


def main() -> None:
    figure, axes = plt.subplots(1, len(PANELS), figsize=(14, 3.4), sharey=True, layout="constrained")
    for axis, (name, path, source, target) in zip(axes, PANELS, strict=True):
        grid = computed(name, path, source, target)
        axis.imshow(grid, origin="lower", cmap=matplotlib.colors.ListedColormap(COLOURS), vmin=0, vmax=3, aspect="auto")
        axis.set_xticks(np.arange(-0.5, TOKENS), minor=True)
        axis.set_yticks(np.arange(-0.5, LAYERS), minor=True)
        axis.grid(which="minor", color="#bbbbbb", linewidth=0.5)
        axis.tick_params(which="minor", length=0)
        axis.set_title(path.replace(" freezing", "\nfreezing"), fontsize=8.5, family="monospace")
        axis.set_xlabel(f"token ({name}: {(grid > 1).sum()} of {LAYERS * TOKENS} have a block to compute)", fontsize=8)
    axes[0].set_ylabel("layer")
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=c, edgecolor="#bbbbbb") for c in COLOURS]
    figure.legend(handles, WORDS, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
