"""How long a sweep takes: all cells as rows of one batch, against the same cells one at a time with plain PyTorch hooks.

    python benchmarks/patching.py

Both run here, one after the other, on the same model and prompts, and their effects are compared.
"""

from __future__ import annotations

import time

import numpy as np
import torch

import circuitry as ct

CASES = [
    ("bundled:gpt_neox", "head[{layer},{head}] @ END -> logits freezing head"),
    ("bundled:mamba", "ssm_state[{layer}] @ B+2 -> logits freezing ssm_state"),
]


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; 32 examples, distance 32; seconds")
    task = ct.task("induction", distance=32, examples=32)
    for name, path in CASES:
        model = ct.load(name)
        seconds, effects = [], []
        for engine in ("nnsight", "reference"):
            start = time.perf_counter()
            table = ct.patch(model, task, path, executor=engine)  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - start)
            effects.append(table.mean().to_numpy())
        gap = np.abs(effects[0] - effects[1]).max()
        print(f"{name}  {path}")
        print(
            f"  one batch {seconds[0]:.2f}  one cell at a time {seconds[1]:.2f}  ratio {seconds[1] / seconds[0]:.1f}  largest gap {gap:.1g}"
        )


if __name__ == "__main__":
    main()
