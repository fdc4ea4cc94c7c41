"""The cost of a sweep: circuitry's executors, a plain loop of hooks over the stock model, TransformerLens, and the predicted floor.

    python benchmarks/patching.py
    python benchmarks/patching.py --cases a b --sample 8
    python benchmarks/patching.py --growth --figure growth.svg --sample 8

Process CPU seconds of one thread. Models have random weights in the shape of GPT-2 small and of Mamba-130M; all methods get the
same weights and prompts, and their effects are compared in the same run. An executor's time is that of the complete call of
``circuitry.patch`` (planning, guards, statistics). A loop's time is that of two passes that record and of one forward pass for
each cell, two if the path has two legs, with all prompts in the batch and only the last token's logits. TransformerLens runs if
4.0 or later is installed.

The floor is the arithmetic that no exact method can avoid, in multiply-adds, computed from the shapes alone. Its seconds are
those of the hook loop, scaled. All cells at full size take hours, most of them in the loops and in "rows". ``--sample 8`` times 8
cells of these and scales the time; ``--quick`` runs tiny models in seconds.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

import torch
import transformers
from patching_cost import floor, growth
from patching_cost.cases import Case, every_case
from patching_cost.measuring import EQUAL, HOOKS, Comparison, compare


def main(argv: list[str] | None = None) -> int:
    """Print the chosen cases. Returns 1 if effects differ."""
    args = arguments(argv)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, one thread, float32; CPU seconds")
    skip = frozenset(args.skip)
    if not args.quick:
        warm_up(skip)
    measure = functools.partial(compare, skip=skip, sample=args.sample)
    equal = True
    for case in every_case(args.quick, args.length, args.prompts):
        if case.name in args.cases:
            equal &= show(measure(case))
    if args.growth or args.figure:
        equal &= grow(args, measure)
    return 0 if equal else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list("abcdef"), choices=list("abcdef"), help="all of them by default")
    parser.add_argument("--quick", action="store_true", help="tiny models, for a test of the benchmark itself")
    parser.add_argument("--skip", nargs="*", default=[], choices=["suffix", "rows", "hooks", "lens"], metavar="METHOD")
    parser.add_argument("--prompts", type=int, default=16, help="an eighth of them in case (e), a quarter for the growth")
    parser.add_argument("--length", type=int, default=20, help="tokens of a prompt, but in case (e)")
    parser.add_argument("--sample", type=int, metavar="K", help="time K cells of all methods but suffix, and scale to all cells")
    parser.add_argument("--growth", action="store_true", help="also: cost by number of cells, tokens and layers")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the growth; .svg, .png or .pdf")
    args = parser.parse_args(argv)
    for name, least in (("prompts", 1), ("length", 12), ("sample", 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}, got {value}")
    return args


def warm_up(skip: frozenset[str]) -> None:
    """Run every case once on a tiny model, so that imports and first calls do not count for the first case."""
    for case in every_case(quick=True, length=20, prompts=1):
        compare(case, skip)


def show(comparison: Comparison) -> bool:
    """Print one case. Returns whether its effects are equal."""
    loop = comparison.measured.get(HOOKS)
    ratio = floor.ratio(comparison.case)
    print(f"\n{comparison.case}\n\n| | CPU seconds | {HOOKS} / this | this / floor |\n|---|---:|---:|---:|")
    for name, method in comparison.measured.items():
        against = (f"{loop.seconds / method.seconds:.2f}", f"{method.seconds * ratio / loop.seconds:.2f}") if loop else ("", "")
        print(f"| {name}{_timed(method.timed, comparison.case)} | {method.seconds:.4g} | {' | '.join(against)} |", flush=True)
    print(f"| floor, predicted | {f'{loop.seconds / ratio:.4g}' if loop else ''} | {ratio:.2f} | 1.00 |\n")
    for name, why in comparison.skipped.items():
        print(f"{name} {why}")
    return equality(comparison)


def _timed(cells: int, case: Case) -> str:
    return "" if cells == len(case.cells) else f" ({cells} cells, scaled to {len(case.cells)})"


def equality(comparison: Comparison) -> bool:
    """Print how far effects differ. Returns whether they are equal up to rounding."""
    if len(comparison.measured) < 2:
        print("effects: nothing to compare with")
        return True
    equal = comparison.relative <= EQUAL
    verdict = "equal" if equal else "NOT EQUAL"
    print(f"effects {verdict}: largest difference {comparison.gap:.1g}, {comparison.relative:.1g} of a logit's or the largest effect's size; "
          f"largest effect {comparison.largest:.2g}", flush=True)  # fmt: skip
    return equal


def grow(args: argparse.Namespace, measure: functools.partial[Comparison]) -> bool:
    """Print the growth and draw it. Returns whether all effects are equal."""
    prompts = max(1, args.prompts // 4)
    sampled = f"; {args.sample} cells of all methods but suffix, scaled" if args.sample else ""
    print(f"\nGrowth of case (a), {prompts} prompts, CPU seconds{sampled}")
    all_series = []
    for series in growth.measure(args.quick, args.length, prompts, measure):
        print(f"\n{series}", flush=True)
        all_series.append(series)
    if args.figure:
        growth.draw(all_series, args.figure)
    worst = max((point for series in all_series for _, point in series.points), key=lambda point: point.relative)
    print(f"\nof these, the case whose effects differ most: {worst.case}")
    return equality(worst)


if __name__ == "__main__":
    sys.exit(main())
