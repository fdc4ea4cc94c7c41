"""CPU seconds before anything runs: to plan the cells, and to draw random nodes, too, and count what the executor will compute.

    python benchmarks/planning.py

The models of 24 layers have random weights and a small width, on which planning does not depend.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

import circuitry as ct
from circuitry.patching.experiment import compile_path

HEADS, STREAM = "head[{layer},{head}] @ {position} -> logits", "resid[{layer}] @ {position} -> logits"


def gpt2() -> ct.Model:
    """24 layers of 16 heads."""
    return ct.load(GPT2LMHeadModel(GPT2Config(n_layer=24, n_head=16, n_embd=64, vocab_size=2048)).eval())


def mamba() -> ct.Model:
    """24 layers."""
    return ct.load(MambaForCausalLM(MambaConfig(num_hidden_layers=24, hidden_size=64, vocab_size=2048)).eval())


CASES: dict[str, tuple[Callable[[], ct.Model], str, int]] = {
    "bundled:gpt_neox": (lambda: ct.load("bundled:gpt_neox"), HEADS, 32),
    "bundled:mamba": (lambda: ct.load("bundled:mamba"), STREAM, 128),
    "gpt2, 24 layers": (gpt2, HEADS, 2),
    "mamba, 24 layers": (mamba, STREAM, 21),
}
"""The model, the path, and how many tokens before END the sweep patches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--random", type=int, default=16, help="random nodes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':<18} {'tokens':>7} {'cells':>6} {'planned':>8} {'explained':>10}")
    for name in args.cases:
        load, path, tokens = CASES[name]
        model, task = load(), ct.task("induction", distance=128, examples=16)
        axes = {"position": [f"END-{back}" for back in range(tokens)]}
        start = time.process_time()
        compiled, prompts = compile_path(model, task, path, axes=axes, lint=False)
        planned = time.process_time()
        ct.explain(model, task, path, axes=axes, baseline=args.random, lint=False)
        sizes = f"{prompts.length:>7} {len(compiled.cells):>6}"
        print(f"{name:<18} {sizes} {planned - start:>8.2f} {time.process_time() - planned:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
