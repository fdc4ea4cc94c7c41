"""The benchmark of gradients compares two ways to compute the same: its stock loops have the values of our recurrences."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ("scan", "ssd", "wkv", "delta", "kda"))
def test_stock_and_ours_compute_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    draw, ours, stock = importlib.import_module("gradients").CASES[name]
    torch.manual_seed(0)
    inputs = draw(2, 20)
    found, wanted = ours(*inputs), stock(*inputs)
    assert found.shape == wanted.shape and (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
