"""How often effects of mean zero get a star, how often real effects do, and how often intervals contain the mean.

    python benchmarks/significance.py

Examples are normal, exponential, log-normal or rare events (one example in twenty is 1, plus normal noise of 0.1 or 0.01), minus
their mean. In the last kind, the examples of each cell are multiplied by a log-normal number (sigma 2). A table has 12 cells and
16 random nodes of the same kind; a single cell has neither. Each row is a number of examples. ``old`` is the fraction of cells
with p < 0.05 in a plain sign-flip test, ``new`` the fraction with p < 0.05 and a q, and ``withheld`` the fraction with p < 0.05
and no q, since outliers may be missing among the examples. Standard errors are over tables. The benchmark takes some minutes on
one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from circuitry.results import statistics
from circuitry.results.skewness import ENOUGH, Outliers, widths

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Sampler: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Floats]

EXAMPLES = (4, 8, 16, 32, 128)
CELLS, NODES, DRAWS = 12, 16, 1999


def rare(noise: float) -> Sampler:
    return lambda rng, shape: (rng.random(shape) < 0.05) - 0.05 + noise * rng.normal(size=shape)


NULLS: dict[str, Sampler] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
    "rare events, noise 0.1": rare(0.1),
    "rare events, noise 0.01": rare(0.01),
    "the same, scales differ": lambda rng, shape: rare(0.01)(rng, shape) * rng.lognormal(0, 2, (*shape[:-1], 1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.process_time()
    nulls(f"Mean zero, tables of {CELLS} cells and {NODES} random nodes", CELLS, NODES, args)
    nulls("Mean zero, the smallest tables that are tested: 90 effects, no random nodes", None, 0, args)
    nulls("Mean zero, a single cell", 1, 0, args)
    power(args)
    shared(args)
    intervals(args)
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


def starred(effects: Floats, cells: int) -> tuple[Floats, Floats, Floats]:
    """Which cells are below 0.05, [table, cell]: by sign flips alone, with a q, and with the q withheld.

    ``effects`` [table, row, example]: the first ``cells`` rows are cells, the others random nodes.
    """
    tables, _, n = effects.shape
    flat = np.sort(effects[:, :cells].reshape(-1, n), axis=1)
    old = statistics.sign_flip_test(flat, DRAWS) < statistics.SIGNIFICANT
    below = statistics.mean_test(flat, DRAWS) < statistics.SIGNIFICANT
    mean, width = (values.reshape(tables, cells) for values in (flat.mean(1), widths(flat)))
    hidden = [Outliers.of([table]).may_hide(m, w, n) for table, m, w in zip(effects, mean, width, strict=True)]
    below = below.reshape(tables, cells)
    return old.reshape(tables, cells), below & ~np.array(hidden), below & np.array(hidden)


def fraction(stars: Floats) -> str:
    """The fraction of cells that are starred [table, cell], with its standard error over tables."""
    by_table = stars.mean(1)
    return f"{by_table.mean():.1%} ± {by_table.std() / np.sqrt(len(by_table)):.1%}"


def show(name: str, n: int, stars: tuple[Floats, Floats, Floats]) -> None:
    old, new, withheld = map(fraction, stars)
    print(f"| {name} | {n} | {old} | {new} | {withheld} |")


def heading(title: str, *columns: str) -> None:
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")


def nulls(title: str, cells: int | None, nodes: int, args: argparse.Namespace) -> None:
    """Tables with ``cells`` cells, or with just enough for 90 effects; the number of cells in all tables stays about the same."""
    heading(title, "effects", "examples", "old", "new", "withheld")
    for name, sample in NULLS.items():
        for n in EXAMPLES:
            rng, wide = np.random.default_rng(args.seed), cells or -(-ENOUGH // n)
            effects = sample(rng, (args.tables * CELLS // wide, wide + nodes, n))
            show(name, n, starred(effects, wide))


def power(args: argparse.Namespace) -> None:
    """Half of the cells and of the nodes have an effect of ``size`` standard deviations; the stars of those cells are counted."""
    heading(
        "Normal effects, mean in standard deviations, half of a table's cells and nodes",
        "mean",
        "examples",
        "old",
        "new",
        "withheld",
    )
    for size in (1, 2, 5):
        for n in EXAMPLES[1:-1]:
            effects = np.random.default_rng(args.seed).normal(size=(args.tables, CELLS + NODES, n))
            effects[:, ::2] += size
            old, new, withheld = starred(effects, CELLS)
            show(str(size), n, (old[:, ::2], new[:, ::2], withheld[:, ::2]))


def shared(args: argparse.Namespace) -> None:
    """The events are in the same examples of every cell and node, so other cells do not show events that are missing in one."""
    heading("Mean zero, rare events in the same examples of all cells", "noise", "examples", "old", "new", "withheld")
    for noise in (0.1, 0.01):
        for n in EXAMPLES[1:]:
            rng = np.random.default_rng(args.seed)
            event = (rng.random((args.tables, 1, n)) < 0.05) - 0.05
            effects = event + noise * rng.normal(size=(args.tables, CELLS + NODES, n))
            show(str(noise), n, starred(effects, CELLS))


def intervals(args: argparse.Namespace) -> None:
    heading("How often the 95% interval contains the mean", "effects", *map(str, EXAMPLES))
    for name, sample in NULLS.items():
        covered = []
        for n in EXAMPLES:
            low, high = statistics.mean_interval(sample(np.random.default_rng(args.seed), (5 * args.tables, n)))
            covered.append(f"{((low <= 0) & (high >= 0)).mean():.1%}")
        print(f"| {name} | {' | '.join(covered)} |")


if __name__ == "__main__":
    main()
