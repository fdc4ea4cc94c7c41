"""What gradients through the recurrences cost: forward and backward, beside autograd through the stock loop of transformers.

    python benchmarks/gradients.py

One layer of the shape of Mamba-130M (selective scan), Mamba2-130M (SSD), RWKV-169M (WKV), Qwen3-Next (delta, the gated delta rule) and
Kimi Linear (kda, the same with a decay for every channel), float32, random values. Seconds are
CPU seconds of one thread, the least of several repetitions. ``forward`` keeps no gradients, ``backward / forward`` compares with
it; ``learning`` is the forward pass that prepares for a backward pass. ``grew`` is the growth of the process at its peak, forward
and backward together, with the gradients of all inputs; ``inputs`` is what these take. ``stock`` is autograd through the loop of
transformers on the same values. Each line is measured in its own process. The stock selective scan stops at 256 tokens, since
its backward pass takes time with the square of the length.

At last a whole model, bundled:mamba, with 24 prompts of 24 tokens: the gradient of a logit by all parameters, ours and stock.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import circuitry as ct
from circuitry.models.delta_rule import Written, delta_rule
from circuitry.models.delta_stock import stock_rule
from circuitry.models.scan import scan
from circuitry.models.ssd import ssd
from circuitry.models.wkv import wkv

LENGTHS, LONGEST_STOCK = (64, 256, 1024), {"scan": 256}
Run = Callable[..., Tensor]


def draw_scan(rows: int, length: int) -> list[Tensor]:
    inner, states = 1536, 16
    delta = F.softplus(torch.randn(rows, length, inner) - 2)
    A = -torch.arange(1.0, states + 1).repeat(inner, 1)
    return [torch.randn(rows, length, inner), delta, A, *torch.randn(2, rows, length, states)]


def draw_ssd(rows: int, length: int) -> list[Tensor]:
    heads, width, states = 24, 64, 128
    delta = F.softplus(torch.randn(rows, length, heads) - 2)
    A = -torch.arange(1.0, heads + 1)
    return [torch.randn(rows, length, heads, width), delta, A, *torch.randn(2, rows, length, heads, states)]


def draw_wkv(rows: int, length: int) -> list[Tensor]:
    channels = 768
    return [*torch.randn(2, rows, length, channels), -torch.exp(torch.randn(channels)), torch.randn(channels)]


def draw_delta(decays: int) -> Callable[[int, int], list[Tensor]]:
    def draw(rows: int, length: int) -> list[Tensor]:
        heads, width = 32, 128
        query, key = F.normalize(torch.randn(2, rows, length, heads, width), dim=-1)
        decay = -0.1 * torch.rand(rows, length, heads, decays)
        return [query, key, torch.randn(rows, length, heads, width), torch.rand(rows, length, heads), decay]

    return draw


def our_delta(query: Tensor, key: Tensor, value: Tensor, step: Tensor, decay: Tensor) -> Tensor:
    return delta_rule(Written(key, value * step[..., None], key, key * step[..., None], decay), query)


def stock_delta(query: Tensor, key: Tensor, value: Tensor, step: Tensor, decay: Tensor) -> Tensor:
    state = value.new_zeros(len(value), value.shape[2], key.shape[-1], value.shape[-1])
    return stock_rule(query, key, value * step[..., None], key * step[..., None], decay, state)[0]


def stock_wkv(key: Tensor, value: Tensor, decay: Tensor, first: Tensor) -> Tensor:
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    return rwkv_linear_attention_cpu(torch.log(-decay), first, key, value)[0]  # type: ignore[no-any-return]


CASES: dict[str, tuple[Callable[[int, int], list[Tensor]], Run, Run]] = {
    # The exact modes are the stock model's operations in its order.
    "scan": (draw_scan, scan, lambda *inputs: scan(*inputs, exact=True)),
    "ssd": (draw_ssd, ssd, lambda *inputs: ssd(*inputs, exact=256)),
    "delta": (draw_delta(1), our_delta, stock_delta),
    "kda": (draw_delta(128), our_delta, stock_delta),
    "wkv": (draw_wkv, lambda key, value, *weights: wkv((key, value), (key, value), *weights), stock_wkv),
}


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = action()
    return time.process_time() - start, found


def times(run: Run, inputs: list[Tensor], repeats: int) -> list[float]:
    """The least CPU seconds of forward without gradients, forward with, and backward."""
    learning, best = [tensor.clone().requires_grad_() for tensor in inputs], [float("inf")] * 3
    for _ in range(repeats):
        with torch.no_grad():
            plain, y = seconds(lambda: run(*inputs))
        forward, y = seconds(lambda: run(*learning))
        backward, _ = seconds(lambda y=y: torch.autograd.grad(y, learning, torch.ones_like(y)))
        best = [min(pair) for pair in zip(best, (plain, forward, backward), strict=True)]
    return best


def growth(run: Run, inputs: list[Tensor]) -> int:
    """MiB by which the process grows at its peak, from before forward to after backward, as Linux counts them."""
    learning = [tensor.requires_grad_() for tensor in inputs]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now the memory of now
    before = memory("VmRSS")
    y = run(*learning)
    torch.autograd.grad(y, learning, torch.ones_like(y))
    return memory("VmHWM") - before


def memory(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) >> 10


def measure(args: argparse.Namespace, name: str, which: str, length: int) -> None:
    draw, *runs = CASES[name]
    run, inputs = runs[which == "stock"], draw(args.rows, length)
    growth(run, draw(args.rows, 16))  # what is loaded once does not count
    grew, took = growth(run, [tensor.clone() for tensor in inputs]), sum(tensor.nbytes for tensor in inputs) / 2**20
    slow = which == "stock" and name == "scan"
    plain, learning, backward = times(run, inputs, 1 if slow else args.repeats)
    print(
        f"{name:5} {length:6} {which:6} {plain:8.4f} {learning:9.4f} {backward:9.4f} {backward / plain:9.2f} {grew:9} {took:7.1f}",
        flush=True,
    )


def whole_model(args: argparse.Namespace) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from circuitry.models.loading import BUNDLED

    logging.disable_progress_bar()
    ids = torch.randint(1, 400, (24, 24), generator=torch.Generator().manual_seed(0))
    stock, ours = AutoModelForCausalLM.from_pretrained(BUNDLED / "mamba").eval(), ct.load("bundled:mamba").hf
    gradients = []
    for name, hf in (("ours", ours), ("stock", stock)):
        best = [float("inf")] * 3
        for _ in range(args.repeats):
            hf.zero_grad()
            with torch.no_grad():
                plain, _ = seconds(lambda hf=hf: hf(ids, use_cache=False))
            forward, out = seconds(lambda hf=hf: hf(ids, use_cache=False))
            backward, _ = seconds(lambda out=out: out.logits[:, -1, 7].sum().backward())
            best = [min(pair) for pair in zip(best, (plain, forward, backward), strict=True)]
        gradients.append([parameter.grad for parameter in hf.parameters()])
        print(f"{name:6} forward {best[0]:.3f}, learning {best[1]:.3f}, backward {best[2]:.3f}, ratio {best[2] / best[0]:.2f}")
    pairs = [pair for pair in zip(*gradients, strict=True) if pair[1] is not None]
    apart = max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)
    print(f"gradients of {len(pairs)} parameters differ by at most {apart:.1e} of the largest number of each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.measure:
        measure(args, args.measure[0], args.measure[1], int(args.measure[2]))
        return
    print(f"{args.rows} row; seconds, MiB" if args.rows == 1 else f"{args.rows} rows; seconds, MiB")
    print("scan  tokens         forward  learning  backward  b/forward      grew  inputs")
    options = ["--rows", str(args.rows), "--repeats", str(args.repeats)]
    for name in CASES:
        for which in ("ours", "stock"):
            for length in LENGTHS:
                if which == "ours" or length <= LONGEST_STOCK.get(name, length):
                    subprocess.run([sys.executable, __file__, *options, "--measure", name, which, str(length)], check=True)
    print("\nbundled:mamba, 24 prompts of 24 tokens, seconds")
    whole_model(args)


if __name__ == "__main__":
    main()
