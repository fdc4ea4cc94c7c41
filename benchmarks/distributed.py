"""The speed-up by more processes: the same sweep in one process and in several, each with one thread, alternately.

    python benchmarks/distributed.py

Every run is started by torchrun, as a user would. The time is from when all processes have loaded the model until all have the
table. The fastest of several runs of each kind counts. The numbers of all runs must be the same, bit for bit. On a machine whose
cores are busy with other work the speed-up is smaller.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from typing import Any

import circuitry as ct
from circuitry.executing.distributed import together

PATH = "head[{layer},{head}] @ {pos} -> logits"


def main() -> None:
    args = arguments()
    if args.measure:
        measure(args)
        return
    print(f"{args.layers} layers x {args.width}, {args.examples} examples, {args.executor}; load {os.getloadavg()[0]:.1f} before")
    runs_by_count: dict[int, list[dict[str, Any]]] = {1: [], args.processes: []}
    for _ in range(args.repeats):
        for processes, runs in runs_by_count.items():
            runs.append(child(args, processes))
    best = {processes: min(run["seconds"] for run in runs) for processes, runs in runs_by_count.items()}
    for processes, seconds in best.items():
        print(f"{processes} process{'es' * (processes > 1)}: {seconds:.2f} s, {best[1] / seconds:.2f} times one")
    digests = {run["digest"] for runs in runs_by_count.values() for run in runs}
    print("all numbers are the same, bit for bit" if len(digests) == 1 else "THE NUMBERS DIFFER")
    sys.exit(len(digests) != 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--executor", default="suffix")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(args: argparse.Namespace, processes: int) -> dict[str, Any]:
    """One run by torchrun: its seconds, and a digest of its numbers."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    sizes = [f"--{name}={getattr(args, name)}" for name in ("layers", "width", "examples", "executor")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, __file__, "--measure", *sizes], env=environment, stdout=subprocess.PIPE, check=True
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(args: argparse.Namespace) -> None:
    """Run the sweep in one of the processes; the first one prints its seconds and a digest of the numbers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=1000,
        n_positions=64,
        n_embd=args.width,
        n_layer=args.layers,
        n_head=args.width // 64,
        bos_token_id=0,
        eos_token_id=0,
    )
    task = ct.task("induction", distance=24, examples=args.examples)
    with ct.load(GPT2LMHeadModel(config)) as model, together() as team:
        options: dict[str, Any] = {"lint": False, "baseline": 0, "executor": ct.executor(args.executor, progress=False)}
        ct.patch(model, task.but(examples=2), PATH, axes={"layer": [0], "pos": ["END"]}, **options)  # warm up
        team.wait()
        start = time.perf_counter()
        table = ct.patch(model, task, PATH, axes={"pos": ["B", "END"]}, **options)
        team.wait()
        seconds = time.perf_counter() - start
        if team.rank == 0:
            digest = hashlib.sha256(table.frame["effect"].to_numpy().tobytes()).hexdigest()
            print(json.dumps({"seconds": seconds, "digest": digest}))


if __name__ == "__main__":
    main()
