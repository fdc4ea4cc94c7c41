"""Packages of compiled kernels that are importable and cannot run, as on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

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
