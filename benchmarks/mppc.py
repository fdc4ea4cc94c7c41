"""The cost of MPPC for one pair of layers, in both directions, compared with a dense product on the same machine.

    python benchmarks/mppc.py

Feature activations are synthetic: firing rates follow a power law, 5% of features are dead, and every feature of one side shares
a random part of its firing with one of the other. Each row of the result is a separate process with one thread: the CPU seconds
of ``circuitry.universality.mppc`` from files on disk (already compiled; the fastest of three runs, or one run if it takes longer
than half a minute), and the process's peak memory. The dense product runs on some of the tokens and features and is scaled up,
since all of it would take hours. Default sizes take a few minutes, 3 GB of memory and half a GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from circuitry.features.matching import FeatureActs, mppc

Sparse: TypeAlias = "csr_array[Any, tuple[int, int]]"
BLOCK = 1 << 14
REPEATS, PATIENCE = 3, 30.0  # the fastest of three runs counts, or the first if it takes more seconds than this
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    args = arguments()
    if args.measure:
        print(json.dumps(measured(args)))
        return
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        args.folder = scratch
        sides = [write(args, side) for side in "ab"]
        size = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())
        l0 = [acts.moments().count.sum() / acts.tokens for acts in sides]
        dead = [float((acts.moments().count == 0).mean()) for acts in sides]
        print(f"{args.features:,} x {args.features:,} features, {args.tokens:,} tokens, L0 {l0[0]:.1f} and {l0[1]:.1f}, "
              f"{dead[0]:.1%} and {dead[1]:.1%} dead, {size / 1e6:,.0f} MB on disk")  # fmt: skip
        dense = child(args, "dense")
        print(f"dense fp32 GEMM, {args.dense_tokens:,} tokens, {args.dense_features:,} x {args.dense_features:,} features: "
              f"{dense['seconds']:.1f} CPU-s, {dense['rate'] / 1e9:.0f} GMAC/s")  # fmt: skip
        print(f"the same, scaled to all tokens and features: {dense['scaled']:,.0f} CPU-s, an estimate")
        for engine in args.engines:
            row = child(args, engine)
            print(f"{engine}: {row['seconds']:.1f} CPU-s, {row['peak'] / 1e9:.2f} GB peak ({row['before'] / 1e9:.2f} GB of it before), "
                  f"{dense['scaled'] / row['seconds']:,.0f} times dense; mean MPPC {row['mean']:.6f}")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=24_576)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--l0", type=float, default=50)
    parser.add_argument("--dense-tokens", type=int, default=8_192)
    parser.add_argument("--dense-features", type=int, default=4_096)
    parser.add_argument("--engines", nargs="*", default=["numba", "scipy"])
    parser.add_argument("--scratch", help="folder for the activations, removed afterwards; default: the system's")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a child process measures
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def rates(features: int, l0: float, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Firing rates that follow a power law and sum to l0; none is above a half, and one in twenty is 0."""
    p = 1 / (rng.permutation(features) + 10.0)
    p[rng.random(features) < 0.05] = 0
    for _ in range(50):  # what is cut off at a half goes to the other features
        p = np.minimum(p * l0 / p.sum(), 0.5)
    return p


def write(args: argparse.Namespace, side: str) -> FeatureActs:
    return FeatureActs.write(Path(args.folder) / side, blocks(args, side), features=args.features, corpus="synthetic")


def blocks(args: argparse.Namespace, side: str) -> Iterator[Sparse]:
    """The activations of one side, in blocks of tokens. Side b keeps a part of each feature's firing on side a, in another order."""
    rng = np.random.default_rng(0)
    p, order, shared = rates(args.features, args.l0, rng), rng.permutation(args.features), rng.random(args.features)
    for start in range(0, args.tokens, BLOCK):
        tokens = min(BLOCK, args.tokens - start)
        # Both sides draw the same numbers, so that each can be written by itself.
        acts, own = fired(tokens, p, rng), fired(tokens, p * (1 - shared), rng)
        common = rng.random(acts.nnz) < shared[acts.indices]
        noise = rng.uniform(0.8, 1.2, acts.nnz)
        if side == "b":
            acts.data *= common * noise
            acts = acts.maximum(own)[:, np.argsort(order)]
        yield acts


def fired(tokens: int, p: Any, rng: np.random.Generator) -> Sparse:
    """Activations [token, feature]: every feature fires with its own probability, independently on each token."""
    # Tokens are drawn with repetition. With this many draws on average, a token is drawn at least once with probability p.
    count = rng.poisson(-np.log1p(-p) * tokens)
    token, feature = rng.integers(0, tokens, count.sum()), np.repeat(np.arange(len(p)), count)
    return csr_array((rng.exponential(1, len(token)) + 0.1, (token, feature)), shape=(tokens, len(p)))


def child(args: argparse.Namespace, engine: str) -> dict[str, Any]:
    """Measure an engine, or "dense", in a separate process."""
    sizes = [
        f"--{name.replace('_', '-')}={getattr(args, name)}"
        for name in ("features", "tokens", "dense_tokens", "dense_features", "folder")
    ]
    command = [sys.executable, __file__, *sizes, f"--measure={engine}"]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def measured(args: argparse.Namespace) -> dict[str, Any]:
    if args.measure == "dense":
        return dense(args)
    with tempfile.TemporaryDirectory() as scratch:
        small = FeatureActs.write(scratch, [np.eye(8)], features=8)
        mppc(small, small, min_count=1, null=None, engine=args.measure, progress=False)  # compiles the kernels
    sides = [FeatureActs.open(Path(args.folder) / side) for side in "ab"]
    before = peak()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < PATIENCE:
        start = time.process_time()
        matches = mppc(*sides, null=None, engine=args.measure, threads=1, progress=False)
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds), "peak": peak(), "before": before, "mean": matches.forward["mppc"].mean()}


def dense(args: argparse.Namespace) -> dict[str, Any]:
    """The seconds of a product of random dense matrices, with some of the tokens and features, and those of all, scaled."""
    import torch

    torch.set_num_threads(1)
    x, y = (torch.rand(args.dense_tokens, args.dense_features) for _ in range(2))
    x[:64].T @ y[:64]
    measured = []
    for _ in range(REPEATS):
        start = time.process_time()
        x.T @ y
        measured.append(time.process_time() - start)
    seconds = min(measured)
    rate = args.dense_tokens * args.dense_features**2 / seconds
    return {"seconds": seconds, "rate": rate, "scaled": args.tokens * args.features**2 / rate}


def peak() -> int:
    """The peak memory of this process so far, in bytes."""
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024


if __name__ == "__main__":
    main()
