"""The text of a scan in segments, each of which ends at a stop or with the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def segments(tensors: Sequence[Tensor], stops: Sequence[int]) -> Iterator[tuple[tuple[Tensor, ...], bool]]:
    """The parts of tensors [batch, pos, ...] up to each stop, with the stop itself, and whether a stop ends them.

    Stops past the end are ignored.

    >>> [(part[0].tolist(), stopped) for part, stopped in segments([torch.arange(4)[None]], [9, 2, 0])]
    [([[0]], True), ([[1, 2]], True), ([[3]], False)]
    """
    length = tensors[0].shape[1]
    ends = sorted({stop + 1 for stop in stops if stop < length} | {length})
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    # Split, not sliced: the gradient of a slice is as long as the text, so that of many slices would be quadratic.
    parts = zip(*(torch.split(tensor, sizes, 1) for tensor in tensors), strict=True)
    for end, part in zip(ends, parts, strict=True):
        yield part, end - 1 in stops
