"""How much memory a pass of a model takes, predicted from the shapes of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .instrumentation import Instrumentation

HELD = 2.5
"""Memory by which a process grows, in that of the largest tensors at once. The C library keeps most of what is freed: glibc aligns each
tensor inside a larger piece of its heap, so a tensor rarely fits where another of the same size was. Returning every tensor to the system
(``MALLOC_MMAP_THRESHOLD_``) needs less memory and more time. ``benchmarks/memory.py`` prints the growth, beside the bound."""


class TakesMemory:
    """The part of ``Model`` that predicts its memory."""

    if TYPE_CHECKING:  # what Model itself has

        @property
        def hf(self) -> Any: ...
        @property
        def dtype(self) -> torch.dtype: ...
        @property
        def _kinds(self) -> list[Instrumentation]: ...

    def bytes_per_row(self, length: int) -> int:
        """Predicted peak memory of one row of ``length`` tokens in a batch, in bytes: the largest tensors of one layer.

        >>> import circuitry as ct
        >>> model = ct.load("bundled:mamba")
        >>> model.bytes_per_row(64) > model.bytes_per_row(32) > 0
        True
        """
        beside = 4 * length * self.hf.config.hidden_size + 3 * self.hf.config.vocab_size
        return int(HELD * (max(self._bytes_in_blocks(length)) + self.dtype.itemsize * beside))

    def bytes_per_token(self, length: int) -> int:
        """Predicted peak memory of one of ``length`` packed tokens, in bytes, without the states of its run. Few have logits.

        >>> import circuitry as ct
        >>> model = ct.load("bundled:mamba")
        >>> 0 < 64 * model.bytes_per_token(64) < model.bytes_per_row(64)
        True
        """
        pairs = zip(self._bytes_in_blocks(length), self._bytes_in_blocks(0), strict=True)
        widest = max(row - states for row, states in pairs)
        return int(HELD * (widest / length + 4 * self.dtype.itemsize * self.hf.config.hidden_size)) + 1

    def bytes_per_state(self) -> int:
        """Predicted peak memory of what a run has in one layer however few tokens it has, in bytes: its recurrent states.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").bytes_per_state() > ct.load("bundled:gpt_neox").bytes_per_state()
        True
        """
        return int(HELD * max(self._bytes_in_blocks(0)))

    def bytes_after(self, logits: bool) -> int:
        """Predicted peak memory of one token that is read after the last layer, in bytes, with or without all of its ``logits``.

        >>> import circuitry as ct
        >>> model = ct.load("bundled:mamba")
        >>> model.bytes_after(logits=True) > model.bytes_after(logits=False)
        True
        """
        values = 4 * self.hf.config.hidden_size + (3 * self.hf.config.vocab_size if logits else 0)
        return int(HELD * self.dtype.itemsize * values)

    def _bytes_in_blocks(self, length: int) -> list[int]:
        """Of one row of ``length`` tokens in each kind of block. Recurrent states have the dtype in which they are added up."""
        wide, config = torch.promote_types(self.dtype, torch.float32).itemsize, self.hf.config
        return [
            (wide if kind.values(config, 0) else self.dtype.itemsize) * int(kind.values(config, length)) for kind in self._kinds
        ]
