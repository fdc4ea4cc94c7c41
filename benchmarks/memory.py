"""The memory that a batch really takes: the growth of the process, compared with the bound.

python benchmarks/memory.py
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

import circuitry as ct
from circuitry.executing.rows.executor import Rows
from circuitry.executing.suffix.executor import Suffix
from circuitry.planning import METRICS, plan
from circuitry.prompting import Prompts

CASES = (
    ("gpt2", "resid[{layer}] @ {position} -> logits", 64, 8, 40, Suffix, False),
    ("gpt2", "resid[{layer}] @ {position} -> logits", 512, 16, 128, Suffix, False),
    ("mamba", "ssm_in[{layer}] @ {position} -> logits", 128, 16, 40, Suffix, False),
    ("gpt2", "resid[{layer}] @ {position} -> logits", 256, 16, 40, Suffix, True),
    ("gpt2", "resid[{layer}] @ {position} -> logits", 256, 16, 40, Rows, False),
    ("gpt2", "resid[{layer}] @ {position} -> logits", 256, 16, 40, Rows, True),
)
"""Shape (GPT-2 small, 8 layers of Mamba-130M), path, bound in MiB, prompts, tokens, executor, and whether each prompt ends at another
token."""


def resident(name: str) -> int:
    """MiB in memory now ("VmRSS"), or the peak since ``reset_peak`` ("VmHWM"), as Linux counts them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) >> 10


def reset_peak() -> None:
    """Set the peak to the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")


def prompts(count: int, length: int, uneven: bool = False) -> Prompts:
    clean = np.random.default_rng(0).integers(1, 50000, (count, length))
    corrupted, at = clean.copy(), length // 3
    corrupted[:, at] += 1
    ends = length - 1 - np.arange(count) if uneven else np.full(count, length - 1)
    where = {"A": np.full(count, at), "END": ends}
    return Prompts(clean, corrupted, clean[:, at], corrupted[:, at], where, ("A",))


def run(name: str, path: str, bound: int, count: int, length: int, executor: type[Suffix] | type[Rows], uneven: bool) -> None:
    torch.set_num_threads(1)
    hf = GPT2LMHeadModel(GPT2Config()) if name == "gpt2" else MambaForCausalLM(MambaConfig(num_hidden_layers=8))
    model, examples = ct.load(hf.eval()), prompts(count, length, uneven)
    where = {position: at.tolist() for position, at in examples.where.items()}
    sweep = plan(path, model.graph, where=where, length=examples.stops.tolist(), changed=examples.differing, sweep=["A", "A+1"])
    small = plan("embed -> logits", model.graph, where={"END": [length - 1]}, length=[length])
    # A small run first, so that what is allocated once does not count.
    executor(model, memory=1).run(small, examples.take(slice(1)), [METRICS["logit"]])
    gc.collect()
    reset_peak()
    before = resident("VmRSS")
    executor(model, memory=bound << 20).run(sweep, examples, [METRICS["logit"]])
    print(
        f"{executor.name:6} {name:6} {path}, {count} prompts of {length} tokens{', each with another END' if uneven else ''}: bound {bound} MiB, grew by {resident('VmHWM') - before}",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(*CASES[int(sys.argv[1])])
    else:  # each in its own process, since freed memory does not always go back to the system
        for number in range(len(CASES)):
            subprocess.run([sys.executable, __file__, str(number)], check=True)
