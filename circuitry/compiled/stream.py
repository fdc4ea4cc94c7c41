"""The residual stream of a compiled model, as named blocks of entries, and how weights read and write them.

One entry is always on, and so large that a norm divides by nearly the same number whatever else is in the stream. It is also the
source of everything that must not depend on the text. If norms subtract the mean (LayerNorm), two more entries keep it at zero:
the negative of the large entry, and the negative sum of all others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOKENS = 272
"""Tokens of the vocabulary: enough for the induction task at distance 256, whose prompts have no token twice but [A]."""
ON, SPARE = 3000.0, 16
"""The value of the entry that is always on, and the number of entries that only distractors write."""
LOGIT = 20.0
"""The answer's logit; all others are about zero."""
ONE = 1.278464542761074
"""The number whose SiLU is 1."""


class Stream:
    """Blocks of the stream by name, each a number of entries: ``stream["token"]`` is a slice, ``stream.size`` its width.

    Some blocks are always there: ``spare``, ``on`` and, with ``centred``, ``off`` and ``balance``.

    >>> stream = Stream(token=3, out=3)
    >>> stream["out"], stream.size
    (slice(3, 6, None), 23)
    """

    def __init__(self, *, centred: bool = False, **blocks: int) -> None:
        self._blocks: dict[str, slice] = {}
        self.size, self.unit, self.centred = 0, 1.0, centred
        for name, width in {**blocks, "spare": SPARE, "on": 1, **({"off": 1, "balance": 1} if centred else {})}.items():
            self._blocks[name] = slice(self.size, self.size + width)
            self.size += width

    def __getitem__(self, name: str) -> slice:
        return self._blocks[name]

    def width(self, name: str) -> int:
        """The number of a block's entries.

        >>> Stream(token=3).width("token")
        3
        """
        block = self[name]
        return int(block.stop - block.start)

    def embed(self, table: Tensor, **blocks: Tensor) -> None:
        """Fill a token embedding [token, stream] with ``blocks`` [token, entry] and the entry that is always on.

        Sets ``unit``, the value of an entry of 1 after a norm.

        >>> stream, table = Stream(token=2), torch.zeros(2, 19)
        >>> stream.embed(table, token=torch.eye(2)); table[0, [0, 1, -1]].tolist(), round(stream.unit, 6)
        ([1.0, 0.0, 3000.0], 0.001453)
        """
        for name, values in blocks.items():
            table[:, self[name]] = values
        if self.centred:
            table[:, self["off"]] = -ON
            table[:, self["balance"]] = -sum(values.sum(1, keepdim=True) for values in blocks.values())
        table[:, self["on"]] = ON
        # The large entry makes this nearly the same for all tokens, so the first one decides it for all.
        self.unit = float(table[0].square().mean().rsqrt())

    def read(self, weight: Tensor, rows: slice, block: str, values: Tensor | float) -> None:
        """Let a linear map [row, stream] read a block's entries as if no norm came before; ``values`` [row, entry] or a number.

        >>> stream, weight = Stream(token=2), torch.zeros(1, 19)
        >>> stream.unit = 0.5; stream.read(weight, slice(1), "token", torch.tensor([[1.0, 0.0]])); weight[0, :2].tolist()
        [2.0, 0.0]
        """
        weight[rows, self[block]] = torch.as_tensor(values) / self.unit

    def constant(self, weight: Tensor, rows: slice, values: Tensor | float) -> None:
        """Let a linear map [row, stream] after a norm give the same output at every token: ``values`` [row] or a number.

        >>> stream, weight = Stream(token=2), torch.zeros(1, 19)
        >>> stream.constant(weight, slice(1), 3.0); round(weight[0, -1].item() * ON * stream.unit, 6)
        3.0
        """
        weight[rows, self["on"]] = torch.as_tensor(values).reshape(-1, 1) / (ON * self.unit)

    def write(self, weight: Tensor, block: str, columns: slice, values: Tensor) -> None:
        """Let a linear map [stream, column] add ``values`` [entry, column] to a block; entries beyond its width are left out.

        Only a tenth is written to spare entries, so that distractors hardly change what norms divide by.

        >>> stream, weight = Stream(token=2, centred=True), torch.zeros(21, 2)
        >>> stream.write(weight, "token", slice(2), torch.eye(2)); weight[[0, 1, -1]].tolist()
        [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]
        """
        values = values[: self.width(block)] * (0.1 if block == "spare" else 1.0)
        start = self[block].start
        weight[start : start + len(values), columns] = values
        if self.centred:
            weight[self["balance"], columns] -= values.sum(0)


def hashed(tokens: int, width: int = SPARE) -> Tensor:
    """The entries that distractors write for a token [entry, token]: its number modulo ``width``.

    >>> hashed(3, 2).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    return torch.eye(width).repeat(1, -(-tokens // width))[:, :tokens]


@torch.no_grad()
def blank(kind: Any, config: Any) -> Any:
    """A Hugging Face model of a class and config in eval mode and float32; the weights of norms are one, all others zero.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> blank(GPT2LMHeadModel, GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)).transformer.ln_f.weight.tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    with torch.random.fork_rng(devices=[]):  # the initialisation must not change the caller's random numbers
        hf = kind(config).float().eval()
    for name, parameter in hf.named_parameters():
        parameter.fill_(1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0)
    return hf


def bits(tokens: int) -> Tensor:
    """Each token's number in binary, -1 or 1 [token, bit]: a short code for when one entry for each token would be too wide.

    >>> bits(3).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    """
    places = torch.arange(max(1, (tokens - 1).bit_length()))
    return 2.0 * (torch.arange(tokens)[:, None] >> places & 1) - 1
