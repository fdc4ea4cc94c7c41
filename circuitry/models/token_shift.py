"""RWKV's token shift: each token sees itself and the token before it, through hook points for either."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .gates import PACKED
from .packed import Inside

_LAGS = 2


class ShiftHookPoints(nn.Module):
    """Identity modules by name, and for every lag two kinds for the shifted input: one for all consumers, and one for each."""

    def __init__(self, names: tuple[str, ...], consumers: tuple[str, ...]) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Identity())
        for name in ("tap", *(f"tap_{consumer}" for consumer in consumers)):
            setattr(self, name, nn.ModuleList(nn.Identity() for _ in range(_LAGS)))


def shifted(block: Any, x: Tensor) -> list[Tensor]:
    """What each token sees of itself and of the token before it, each as in ``x`` [batch, pos, d_model].

    >>> import torch
    >>> from types import SimpleNamespace
    >>> block = SimpleNamespace(circuitry=ShiftHookPoints((), ()))
    >>> [seen.flatten().tolist() for seen in shifted(block, torch.tensor([[[1.0], [2.0]]]))]
    [[1.0, 2.0], [0.0, 1.0]]
    """
    inside: Inside | None = getattr(block, PACKED, None)

    def back(k: int) -> Tensor:
        return F.pad(x, (0, 0, k, 0))[:, : x.shape[1]] if inside is None else inside.lagged(x, k)

    return [tap(back(k)) for k, tap in enumerate(block.circuitry.tap)]
