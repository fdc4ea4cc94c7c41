"""Moves a progress bar while a batch is computed: layer by layer, since a batch of a large model takes minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import Any

from tqdm import tqdm

from ..models.model import Model
from ..planning.regions import regions_of


@contextmanager
def moving(model: Model, bar: tqdm[Any], count: int, work: Sequence[int] | None = None) -> Iterator[None]:
    """Within this context, one forward pass moves the bar by ``count`` patches; ``work`` [layer] is what each layer has to compute.

    The bar has moved by exactly ``count`` at the end, unless an error is raised.

    >>> import circuitry as ct
    >>> import torch
    >>> from circuitry.progress import bar
    >>> model = ct.load("bundled:mamba")
    >>> with bar(total=8, show=False) as shown, moving(model, shown, 8):
    ...     _ = model.hf(torch.zeros(1, 2, dtype=int))
    """
    if bar.disable:
        yield
        return
    layers = regions_of(model.graph).layers
    sizes, done = list(accumulate(work or [1] * len(layers))), 0

    def move(reached: int) -> None:
        nonlocal done
        if reached > done:
            bar.update(reached - done)
            done = reached

    with ExitStack() as stack:
        for layer, size in zip(layers, sizes, strict=True):
            reached = count * size // max(1, sizes[-1])
            after = model.hf.get_submodule(layer).register_forward_hook(lambda *_, reached=reached: move(reached))
            stack.callback(after.remove)
        yield
    move(count)
