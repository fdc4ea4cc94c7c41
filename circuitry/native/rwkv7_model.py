"""RWKV-7 in plain torch (Peng et al. 2025, arXiv:2503.14456), which transformers does not have. Weights have the names of its author's checkpoints."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .first_value import FirstValue

SLOWEST = -math.exp(-0.5)
"""The least logarithm of a decay: no channel of a state shrinks by more than the factor exp(-exp(-1/2)), .55, in one token."""


@strict
class Rwkv7Config(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of an RWKV-7. The ranks are those of the products of two narrow matrices that give decay, learning rate, the mix with
    layer 0's values, and gate.

    >>> Rwkv7Config(hidden_size=128).head_dim
    64
    """

    model_type = "rwkv7"

    vocab_size: int = 65536
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    head_dim: int = 64
    decay_rank: int = 64
    rate_rank: int = 64
    value_rank: int = 32
    gate_rank: int = 128
    layer_norm_epsilon: float = 1e-5
    head_norm_epsilon: float = 64e-5
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    tie_word_embeddings: bool = False
    use_cache: bool = False


class HeadNorm(nn.Module):
    """A layer norm of each head's ``group_size`` numbers, with weights for all channels."""

    def __init__(self, width: int, group_size: int, eps: float) -> None:
        super().__init__()
        self.group_size, self.eps = group_size, eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The norm of x [..., d_model]."""
        rows = x.reshape(-1, x.shape[-1])
        return F.group_norm(rows, x.shape[-1] // self.group_size, self.weight, self.bias, self.eps).view_as(x)


class Rwkv7TimeMixing(nn.Module):
    """Time mixing: the states, each token's own value as a bonus, and a gate."""

    def __init__(self, config: Rwkv7Config, layer: int) -> None:
        super().__init__()
        width, self.head_dim, self.layer = config.hidden_size, config.head_dim, layer
        ranks = {"w": config.decay_rank, "a": config.rate_rank, "v": config.value_rank, "g": config.gate_rank}
        for name in "rwkvag":
            setattr(self, f"x_{name}", _zeros(1, 1, width))
        for name, rank in ranks.items():
            if name == "v" and layer == 0:
                continue
            if name != "g":
                setattr(self, f"{name}0", _zeros(1, 1, width))
            setattr(self, f"{name}1", _zeros(width, rank))
            setattr(self, f"{name}2", _zeros(rank, width))
        self.k_k, self.k_a, self.r_k = _zeros(1, 1, width), _zeros(1, 1, width), _zeros(width // self.head_dim, self.head_dim)
        for name in ("receptance", "key", "value", "output"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.ln_x = HeadNorm(width, self.head_dim, config.head_norm_epsilon)

    def forward(self, x: Tensor, first: FirstValue) -> Tensor:
        """From the normed stream [batch, pos, d_model]; layer 0 fills ``first``."""
        m: Any = self
        xr, xw, xk, xv, xa, xg = (_mixed(x, getattr(self, f"x_{name}")) for name in "rwkvag")
        r, k, v, decay = m.receptance(xr), m.key(xk), m.value(xv), m.w0 + torch.tanh(xw @ m.w1) @ m.w2
        if self.layer == 0:
            first.value = v
        elif first.value is not None:
            v = v + (first.value.to(v.device) - v) * torch.sigmoid(m.v0 + (xv @ m.v1) @ m.v2)
        rate = torch.sigmoid(m.a0 + (xa @ m.a1) @ m.a2)
        wide = (self._by_head(part) for part in (r, decay, k, v, rate, m.k_k, m.k_a))
        r, decay, k, v, rate, k_k, k_a = wide
        erase, k = F.normalize(k * k_k, dim=-1), k * (1 + (rate - 1) * k_a)
        y = recurrence(r, SLOWEST * torch.sigmoid(decay), k, v, erase, erase * rate)
        bonus = (r * k * m.r_k).sum(-1, keepdim=True) * v
        y, bonus = (part.to(x.dtype).flatten(2) for part in (y, bonus))
        gate = torch.sigmoid(xg @ m.g1) @ m.g2
        return m.output((m.ln_x(y) + bonus) * gate)  # type: ignore[no-any-return]

    def _by_head(self, value: Tensor) -> Tensor:
        wide = value.to(torch.promote_types(value.dtype, torch.float32))
        return wide.unflatten(-1, (-1, self.head_dim))  # type: ignore[no-untyped-call,no-any-return]


def _zeros(*sizes: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*sizes))


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    """Each token and the one before it, mixed."""
    before = F.pad(x, (0, 0, 1, 0))[:, : x.shape[1]]
    return x + (before - x) * weight


def recurrence(query: Tensor, decay: Tensor, key: Tensor, value: Tensor, probe: Tensor, erase: Tensor) -> Tensor:
    """S <- exp(decay) S - erase (probe^T S) + key value^T for each token in turn, and what its query reads then: S^T query.

    All [batch, pos, head, d_head]; S is [batch, head, d_key, d_value] and zero before the text.

    >>> ones = torch.ones(1, 3, 1, 1)
    >>> recurrence(ones, 0 * ones, ones, ones, 0 * ones, 0 * ones).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    state, y = value.new_zeros(*key[:, 0].shape, value.shape[-1]), []
    for q, d, k, v, p, e in zip(*(part.unbind(1) for part in (query, decay, key, value, probe, erase)), strict=True):
        found = p[..., None, :] @ state
        state = d.exp()[..., None] * state - e[..., None] * found + k[..., None] * v[..., None, :]
        y.append((q[..., None, :] @ state)[..., 0, :])
    return torch.stack(y, 1)


class Rwkv7ChannelMixing(nn.Module):
    """Channel mixing: squared ReLU between two layers, of each token mixed with the one before it."""

    def __init__(self, config: Rwkv7Config) -> None:
        super().__init__()
        self.x_k = _zeros(1, 1, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.value = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From the normed stream [batch, pos, d_model]."""
        return self.value(torch.square(torch.relu(self.key(_mixed(x, self.x_k)))))  # type: ignore[no-any-return]


class Rwkv7Block(nn.Module):
    """One layer. The first one norms the embeddings before anything else."""

    def __init__(self, config: Rwkv7Config, layer: int) -> None:
        super().__init__()
        for name in ("ln0", "ln1", "ln2") if layer == 0 else ("ln1", "ln2"):
            setattr(self, name, nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon))
        self.att, self.ffn, self.layer = Rwkv7TimeMixing(config, layer), Rwkv7ChannelMixing(config), layer

    def forward(self, x: Tensor, first: FirstValue) -> Tensor:
        """From the stream [batch, pos, d_model]."""
        m: Any = self
        x = m.ln0(x) if self.layer == 0 else x
        x = x + self.att(m.ln1(x), first)
        return x + self.ffn(m.ln2(x))  # type: ignore[no-any-return]


class Rwkv7ForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The language model. It keeps no state between calls: ``generate`` computes the text again for every token. As in transformers'
    RWKV, padding counts as text.

    >>> config = Rwkv7Config(vocab_size=9, hidden_size=4, head_dim=2, num_hidden_layers=2, intermediate_size=8)
    >>> Rwkv7ForCausalLM(config)(torch.zeros(1, 3, dtype=torch.long), logits_to_keep=1).logits.shape
    torch.Size([1, 1, 9])
    """

    config: Rwkv7Config
    config_class = Rwkv7Config
    base_model_prefix = "rwkv7"
    _no_split_modules = ("Rwkv7Block",)

    def __init__(self, config: Rwkv7Config) -> None:
        super().__init__(config)
        self.emb = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Rwkv7Block(config, layer) for layer in range(config.num_hidden_layers))
        self.ln_out = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.emb

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.head

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits [batch, pos, vocabulary], of the last ``logits_to_keep`` tokens only, unless that is 0."""
        x = self.emb(input_ids) if inputs_embeds is None else inputs_embeds
        first, stream = FirstValue(), []
        for block in self.blocks:
            stream.append(x)
            x = block(x, first)
        x = self.ln_out(x)
        kept = x[:, slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep]
        hidden = (*stream, x) if output_hidden_states else None
        return CausalLMOutput(logits=self.head(kept), hidden_states=hidden)
