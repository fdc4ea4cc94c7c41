"""What a layer pair of MPPC costs, in both directions, against a dense product on the same machine.

    python benchmarks/mppc.py

Feature activations are synthetic: firing rates follow a power law, 5% of features are dead, every feature of one side shares a random
part of its firing with one of the other. Each row of the result is a process of its own with one thread: CPU seconds of
``circuitry.universality.mppc`` from files on disk (compiled before; the fastest of three runs, or one if that
takes longer than half a minute), and the process's peak memory. The dense product runs on
some of the tokens and features and is scaled up, since all of it would take hours. Default sizes take a few minutes, 3 GB of
memory and half a GB of disk.
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
REPEATS, PATIENCE = 3, 30.0  # the fastest of three runs counts, or the first, where it takes more seconds than that
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
        l0 = [one.moments().count.sum() / one.tokens for one in sides]
        dead = [float((one.moments().count == 0).mean()) for one in sides]
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
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a child process is for
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def rates(features: int, l0: float, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Firing rates, a power law with l0 for their sum; none above a half, one in twenty 0."""
    shape = 1 / (rng.permutation(features) + 10.0)
    shape[rng.random(features) < 0.05] = 0
    p = shape
    for _ in range(50):  # what is cut off goes to the others
        p = np.minimum(p * l0 / p.sum(), 0.5)
    return p


def write(args: argparse.Namespace, side: str) -> FeatureActs:
    return FeatureActs.write(Path(args.folder) / side, blocks(args, side), features=args.features, corpus="synthetic")


def blocks(args: argparse.Namespace, side: str) -> Iterator[Sparse]:
    """Tokens of one side. Both are made of the same draws: the other side keeps a share of each feature's firing, renumbered."""
    rng = np.random.default_rng(0)
    p, order, shared = rates(args.features, args.l0, rng), rng.permutation(args.features), rng.random(args.features)
    for start in range(0, args.tokens, BLOCK):
        tokens = min(BLOCK, args.tokens - start)
        one, own = fired(tokens, p, rng), fired(tokens, p * (1 - shared), rng)
        kept = rng.random(one.nnz) < shared[one.indices]
        noise = rng.uniform(0.8, 1.2, one.nnz)
        if side == "b":
            one.data *= kept * noise
            one = one.maximum(own)[:, np.argsort(order)]
        yield one


def fired(tokens: int, p: Any, rng: np.random.Generator) -> Sparse:
    """Activations [token, feature]: every feature fires with its own probability, on each token for itself."""
    count = rng.poisson(-np.log1p(-p) * tokens)  # with as many throws, a token is hit with probability p
    token, feature = rng.integers(0, tokens, count.sum()), np.repeat(np.arange(len(p)), count)
    return csr_array((rng.exponential(1, len(token)) + 0.1, (token, feature)), shape=(tokens, len(p)))


def child(args: argparse.Namespace, what: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    given = [
        f"--{name.replace('_', '-')}={getattr(args, name)}"
        for name in ("features", "tokens", "dense_tokens", "dense_features", "folder")
    ]
    command = [sys.executable, __file__, *given, f"--measure={what}"]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(args: argparse.Namespace) -> dict[str, Any]:
    if args.measure == "dense":
        return dense(args)
    with tempfile.TemporaryDirectory() as scratch:
        small = FeatureActs.write(scratch, [np.eye(8)], features=8)
        mppc(small, small, min_count=1, null=None, engine=args.measure, progress=False)  # compiles what files need
    sides = [FeatureActs.open(Path(args.folder) / side) for side in "ab"]
    before = peak()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < PATIENCE:
        start = time.process_time()
        found = mppc(*sides, null=None, engine=args.measure, threads=1, progress=False)
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds), "peak": peak(), "before": before, "mean": found.forward["mppc"].mean()}


def dense(args: argparse.Namespace) -> dict[str, Any]:
    """A product of random dense matrices of some tokens and features."""
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
    """Greatest memory of this process so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main()
