"""SAEs of circuitry and of SAELens, trained on the same activations with as many steps.

    python benchmarks/saes.py

Both take the same batches of activations of a bundled model on Python's documentation, with the same optimizer, learning rate,
penalty, clipping and starting norm for ReLU; for TopK, SAELens starts as it does by default. The numbers are of tokens that no SAE
was trained on. Each training is a separate process with one thread, and the fastest of ``--repeats`` counts. SAELens is optional:
without it in this environment (``pip install sae-lens``), only circuitry's SAEs are trained.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import circuitry as ct
from circuitry.features.sae import Recipe, train_sae
from circuitry.features.sae.train import BUFFER
from circuitry.universality import activations

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OURS, THEIRS = "circuitry", "SAELens"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "relu, l1=3": (OURS, {"kind": "relu", "l1": 3.0}),
    "relu, l1=3 (SAELens)": (THEIRS, {"kind": "relu", "l1": 3.0}),
    "relu, l1=3, not clipped": (OURS, {"kind": "relu", "l1": 3.0, "recipe": "paper"}),
    "topk, k=52": (OURS, {"kind": "topk", "k": 52}),
    "topk, k=52 (SAELens)": (THEIRS, {"kind": "topk", "k": 52}),
    "batchtopk, k=52": (OURS, {"kind": "batchtopk", "k": 52}),
    "matryoshka, k=52": (OURS, {"kind": "matryoshka", "k": 52}),
    "jumprelu, l0_penalty=1": (OURS, {"kind": "jumprelu", "l0_penalty": 1.0}),
}
Trained = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From activations [token, width] to reconstruction and features."""


def main() -> None:
    args = arguments()
    if args.measure:
        print(json.dumps(measured(args)))
        return
    missing = importlib.util.find_spec("sae_lens") is None
    if missing:
        print("SAELens is not installed in this environment, so its SAEs are skipped; pip install sae-lens adds them")
    with tempfile.TemporaryDirectory() as scratch:
        args.folder = scratch
        collect(args)
        print(f"{args.model} {args.node}, {args.features:,} features, {args.steps} steps of {args.batch:,} tokens\n")
        print("| SAE | trained by | L0 | explained variance | dead | CPU seconds |\n|---|---|---:|---:|---:|---:|")
        for name, (library, _) in CASES.items():
            if library == THEIRS and missing:
                continue
            rows = [child(args, name) for _ in range(args.repeats)]
            row = rows[0] | {"seconds": min(row["seconds"] for row in rows)}
            print(f"| {name.removesuffix(' (SAELens)')} | {library} | {row['l0']:.1f} | {row['explained_variance']:.3f} | "
                  f"{row['dead']:.1%} | {row['seconds']:.1f} |", flush=True)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:gpt_neox")
    parser.add_argument("--node", default="resid[2]")
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=144)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--test", type=int, default=26, help="batches to measure on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the case of a child process
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def collect(args: argparse.Namespace) -> None:
    """Write batches [batch, token, width] to train on and, of other tokens, to measure on."""
    wanted = (args.steps + args.test) * args.batch
    tokens = -(-wanted // BUFFER) * BUFFER  # else the last buffer would begin the text again, with tokens that were trained on
    stream = activations(ct.load(args.model), args.node, tokens=tokens, batch=args.batch, buffer=BUFFER).batches()
    batches = torch.stack([next(iter(next(stream).values())) for _ in range(args.steps + args.test)])
    parts = {"train": batches[: args.steps].clone(), "test": batches[args.steps :].clone()}
    save_file(parts, Path(args.folder) / "activations.safetensors")


def child(args: argparse.Namespace, case: str) -> dict[str, float]:
    """What a separate process with one thread measures of one case."""
    same = [f"--{name}={getattr(args, name)}" for name in ("node", "features", "steps", "batch", "folder")]
    command = [sys.executable, __file__, "--measure", case, *same]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measured(args: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    data = load_file(Path(args.folder) / "activations.safetensors")
    library, settings = CASES[args.measure]
    sae, seconds = (ours if library == OURS else theirs)(args, data["train"], settings)
    x = data["test"].flatten(0, 1)
    with torch.no_grad():
        reconstruction, features = sae(x)
    return {
        "l0": float((features > 0).sum(1).double().mean()),
        "explained_variance": 1 - float((x - reconstruction).square().sum() / (x - x.mean(0)).square().sum()),
        "dead": float((~(features > 0).any(0)).double().mean()),
        "seconds": seconds,
    }


def ours(args: argparse.Namespace, batches: Tensor, settings: dict[str, Any]) -> tuple[Trained, float]:
    begin = time.process_time()
    saes = train_sae(
        None, args.node, activations=batches, tokens=args.steps * args.batch, features=args.features, progress=False, **settings
    )
    return saes[args.node], time.process_time() - begin


def theirs(args: argparse.Namespace, batches: Tensor, settings: dict[str, Any]) -> tuple[Trained, float]:
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    logging.disable()
    torch.manual_seed(0)
    recipe, width = Recipe(), batches.shape[2]
    scale = width**0.5 / batches.flatten(0, 1)[: recipe.measured].norm(dim=1).mean()  # what circuitry does by itself
    sizes: dict[str, Any] = {"d_in": width, "d_sae": args.features}
    if settings["kind"] == "relu":
        warm = round(recipe.penalty_warmup * args.steps)
        start = {"decoder_init_norm": (2 * width / args.features) ** 0.5, "apply_b_dec_to_input": False}
        config = StandardTrainingSAEConfig(**sizes, **start, l1_coefficient=settings["l1"], l1_warm_up_steps=warm)
        sae: Any = StandardTrainingSAE(config)
    else:
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, k=settings["k"]))
    falling = round(recipe.decay * args.steps)
    trainer = SAETrainerConfig(
        total_training_samples=args.steps * args.batch,
        train_batch_size_samples=args.batch,
        lr=recipe.lr,
        lr_end=0.0,
        lr_decay_steps=falling,
    )
    begin = time.process_time()
    sae = SAETrainer(trainer, sae, iter(batches * scale)).fit()
    seconds = time.process_time() - begin

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        features = sae.encode(x * scale)
        return sae.decode(features) / scale, features

    return run, seconds


if __name__ == "__main__":
    main()
