"""The speed-up by more processes of training autoencoders: the same training in one process and in several, alternately.

    python benchmarks/distributed_saes.py

Every run is started by torchrun, and each process has one thread. The time is from when all processes have loaded the model and
the text until all have the autoencoders. The fastest of several runs of each kind counts. CPU seconds are those of the slowest
process: on a machine whose cores are busy with other work, they say what the wall clock cannot. The weights of all runs must be
the same, bit for bit, and all processes together must compute as many positions as one.
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
from circuitry.executing.activations import read
from circuitry.features.activations import corpus, forward
from circuitry.features.sae import train_sae
from circuitry.team import team


def main() -> None:
    args = arguments()
    if args.measure:
        measure(args)
        return
    print(
        f"{len(args.nodes)} autoencoders of {args.features} features, {args.tokens:,} tokens; load {os.getloadavg()[0]:.1f} before"
    )
    runs_by_count: dict[int, list[dict[str, Any]]] = {1: [], args.processes: []}
    for _ in range(args.repeats):
        for processes, runs in runs_by_count.items():
            runs.append(child(args, processes))
    base = {key: min(run[key] for run in runs_by_count[1]) for key in ("seconds", "cpu")}
    for processes, runs in runs_by_count.items():
        best = {key: min(run[key] for run in runs) for key in base}
        print(
            f"{processes} process{'es' * (processes > 1)}: {args.tokens / best['seconds']:,.0f} tokens/s, "
            f"{base['seconds'] / best['seconds']:.2f} times one; {best['cpu']:.1f} CPU-s, {base['cpu'] / best['cpu']:.2f} times less; "
            f"positions of each: {', '.join(f'{number:,}' for number in runs[0]['positions'])}"
        )
    alike = len({(run["digest"], sum(run["positions"])) for runs in runs_by_count.values() for run in runs}) == 1
    print("all weights are the same, bit for bit, and no position is computed twice" if alike else "THE RUNS DIFFER")
    sys.exit(not alike)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="bundled:gpt_neox")
    parser.add_argument("--nodes", nargs="+", default=[f"{name}[{k}]" for k in range(4) for name in ("resid", "mlp")])
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(args: argparse.Namespace, processes: int) -> dict[str, Any]:
    """One run by torchrun: its seconds, the CPU seconds of its slowest process, positions by process, and a digest of its weights."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = [f"--{name}={getattr(args, name)}" for name in ("model", "features", "tokens")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, __file__, "--measure", *given, "--nodes", *args.nodes]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(args: argparse.Namespace) -> None:
    """Train in one of the processes; the first one prints what all of them took."""
    positions = 0

    def counted(model: Any, nodes: Any, ids: Any) -> Any:
        nonlocal positions
        positions += ids.size if ids.size > 2 else 0  # the smallest inputs only ask for widths
        return read(model, nodes, ids)

    vars(forward)["read"] = counted
    with ct.load(args.model) as model, team() as crew:
        text = corpus(model, tokens=args.tokens, context=256, progress=False)
        how: dict[str, Any] = {"corpus": text, "features": args.features, "measured": 1024, "buffer": 16384, "progress": False}
        train_sae(model, args.nodes, **how, tokens=1024)  # warm up
        positions = 0
        crew.wait()
        start, cpu = time.perf_counter(), time.process_time()
        saes = train_sae(model, args.nodes, **how, tokens=args.tokens)
        spent = time.process_time() - cpu
        crew.wait()
        seconds = time.perf_counter() - start
        weights = b"".join(value.detach().numpy().tobytes() for sae in saes.values() for value in sae.parameters())
        spents, several = zip(*crew.gathered((spent, positions)), strict=True)
        if crew.rank == 0:
            digest = hashlib.sha256(weights).hexdigest()
            print(json.dumps({"seconds": seconds, "cpu": max(spents), "positions": several, "digest": digest}))


if __name__ == "__main__":
    main()
