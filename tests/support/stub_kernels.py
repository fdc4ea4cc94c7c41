"""Packages of compiled kernels that are importable and cannot run, as on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.models import mixers
from support import tiny

STUB = "def {function}(x, *args, **kwargs):\n    raise NotImplementedError('no kernel for CPU tensors')\n"
_CODE = """
import sys, torch, circuitry as ct
from support import tiny
from circuitry.models.mixers import exact
hf = tiny.stock(sys.argv[1], dtype=torch.float32)
ids = torch.arange(20)[None] + 3
try:
    hf(ids, use_cache=False)
    raise SystemExit("the stub was not called")
except NotImplementedError as error:
    print("stock:", error)
model = ct.load(hf)
with exact(model.mixers), torch.no_grad():
    torch.save(model.hf(ids, use_cache=False).logits, sys.argv[2])
"""


def logits_beside(folder: Path, kind: str, files: Mapping[str, str]) -> Tensor:
    """Our logits of a tiny model in a process that can import these files; the stock model must have failed there."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, root / "tests", root)))}
    command = [sys.executable, "-c", _CODE, kind, str(folder / "logits.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "stock: no kernel for CPU tensors\n"
    logits: Tensor = torch.load(folder / "logits.pt")
    return logits


@torch.no_grad()
def check_without(monkeypatch: pytest.MonkeyPatch, kind: str, modelling: ModuleType, function: str) -> None:
    """Our exact logits are the stock ones where a function that dispatches to kernels, of transformers' module, cannot run."""
    ids = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(0))
    hf = tiny.stock(kind, dtype=torch.float32)
    hf.set_attn_implementation("eager")
    stock = hf(ids, use_cache=False).logits

    def fail(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no kernel image for CPU tensors")

    monkeypatch.setattr(modelling, function, fail)
    with pytest.raises(NotImplementedError):
        hf(ids, use_cache=False)
    monkeypatch.setattr(mixers, "find_spec", lambda _: object())
    ours = ct.load(hf)
    with mixers.exact(ours.mixers):
        assert torch.equal(ours.hf(ids, use_cache=False).logits, stock)
