"""Attention of the types that do not use transformers' interface, from its definition: projections, positions, one head after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .attention import by_head

See = Callable[..., Tensor]


def gpt_neo(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Unscaled scores; a local layer sees the last ``window_size`` tokens.

    >>> import circuitry as ct
    >>> from transformers import GPTNeoConfig, GPTNeoForCausalLM
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_layers": 1, "num_heads": 1, "attention_types": [[["global"], 1]]}
    >>> hf = GPTNeoForCausalLM(GPTNeoConfig(**sizes))
    >>> gpt_neo(hf.transformer.h[0].attn.attention, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    width = m.config.window_size if m.config.attention_layers[layer] == "local" else None
    q, k, v = (_split(p(x), m.num_heads) for p in (m.q_proj, m.k_proj, m.v_proj))
    return m.out_proj(by_head(q, k, v, _hidden(x, width), layer, see, lambda _, scores: scores).flatten(2))  # type: ignore[no-any-return]


def gptj(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """The first ``rotary_dim`` numbers of queries and keys are rotated, neighbours with each other.

    >>> from transformers import GPTJConfig, GPTJForCausalLM
    >>> hf = GPTJForCausalLM(GPTJConfig(vocab_size=9, n_embd=4, n_layer=1, n_head=1, rotary_dim=2))
    >>> gptj(hf.transformer.h[0].attn, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    q, k, v = (_split(p(x), m.num_attention_heads) for p in (m.q_proj, m.k_proj, m.v_proj))
    return _rotated(m, q, k, v, layer, see)


def codegen(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Like GPT-J; one projection gives a quarter of the queries, of the values and of the keys, four times over.

    >>> from transformers import CodeGenConfig, CodeGenForCausalLM
    >>> hf = CodeGenForCausalLM(CodeGenConfig(vocab_size=9, n_embd=8, n_layer=1, n_head=4, rotary_dim=2))
    >>> codegen(hf.transformer.h[0].attn, torch.ones(1, 3, 8), 0, lambda key, x: x).shape
    torch.Size([1, 3, 8])
    """
    quarters = m.qkv_proj(x).chunk(4, -1)
    q, v, k = (_split(torch.cat([quarter.chunk(3, -1)[n] for quarter in quarters], -1), m.num_attention_heads) for n in range(3))
    return _rotated(m, q, k, v, layer, see)


def bloom(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Queries, keys and values of a head lie side by side; a score falls with the distance of its key (ALiBi).

    >>> from transformers import BloomConfig, BloomForCausalLM
    >>> hf = BloomForCausalLM(BloomConfig(vocab_size=9, hidden_size=4, n_layer=1, n_head=1))
    >>> bloom(hf.transformer.h[0].self_attention, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    d, width = m.head_dim, m.query_key_value(x)
    q, k, v = (torch.stack([width[..., (3 * h + n) * d : (3 * h + n + 1) * d] for h in range(m.num_heads)], 1) for n in range(3))
    return m.dense(by_head(q, k, v, _hidden(x), layer, see, _alibi(x, m.num_heads, d**-0.5)).flatten(2))  # type: ignore[no-any-return]


def mpt(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Queries, then keys, then values, cut off at ``clip_qkv``; a score falls with the distance of its key (ALiBi).

    >>> from transformers import MptConfig, MptForCausalLM
    >>> hf = MptForCausalLM(MptConfig(vocab_size=9, d_model=4, n_layers=1, n_heads=1))
    >>> mpt(hf.transformer.blocks[0].attn, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    limit = m.clip_qkv or math.inf
    q, k, v = (_split(part, m.n_heads) for part in m.Wqkv(x).clip(-limit, limit).chunk(3, -1))
    return m.out_proj(by_head(q, k, v, _hidden(x), layer, see, _alibi(x, m.n_heads, m.softmax_scale)).flatten(2))  # type: ignore[no-any-return]


def falcon(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Rotated queries and keys, halves with each other; the heads of a group, or all, share a key and a value.

    >>> from transformers import FalconConfig, FalconForCausalLM
    >>> hf = FalconForCausalLM(FalconConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2))
    >>> falcon(hf.transformer.h[0].self_attention, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    config, d = m.config, m.head_dim
    groups = config.num_kv_heads if config.new_decoder_architecture else 1 if config.multi_query else m.num_heads
    blocks = _split(m.query_key_value(x), groups, m.num_heads // groups + 2)  # of each group: its queries, its key, its value
    q, k, v = blocks[:, :, :-2].flatten(1, 2), blocks[:, :, -2], blocks[:, :, -1]
    q, k = (_turned(y, config.rope_parameters["rope_theta"]) for y in (q, k))
    return m.dense(by_head(q, k, v, _hidden(x), layer, see, lambda _, scores: scores * d**-0.5).flatten(2))  # type: ignore[no-any-return]


def gpt_neox_japanese(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Query, key and value of a head lie side by side; the first ``rotary_ndims`` numbers are rotated, halves with each other.

    >>> from transformers import GPTNeoXJapaneseConfig, GPTNeoXJapaneseForCausalLM
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> hf = GPTNeoXJapaneseForCausalLM(GPTNeoXJapaneseConfig(**sizes))
    >>> gpt_neox_japanese(hf.gpt_neox_japanese.layers[0].attention, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    q, k, v = _split(m.query_key_value(x), m.num_attention_heads, 3).unbind(2)
    q, k = (torch.cat([_turned(y[..., : m.rotary_ndims], 10000.0), y[..., m.rotary_ndims :]], -1) for y in (q, k))
    return m.dense(by_head(q, k, v, _hidden(x), layer, see, lambda _, scores: scores * m.head_size**-0.5).flatten(2))  # type: ignore[no-any-return]


def xglm(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """Queries are scaled before they are multiplied with keys.

    >>> from transformers import XGLMConfig, XGLMForCausalLM
    >>> hf = XGLMForCausalLM(XGLMConfig(vocab_size=9, d_model=4, num_layers=1, attention_heads=1, ffn_dim=4))
    >>> xglm(hf.model.layers[0].self_attn, torch.ones(1, 3, 4), 0, lambda key, x: x).shape
    torch.Size([1, 3, 4])
    """
    q, k, v = (_split(p(x), m.num_heads) for p in (m.q_proj, m.k_proj, m.v_proj))
    return m.out_proj(by_head(q * m.head_dim**-0.5, k, v, _hidden(x), layer, see, lambda _, scores: scores).flatten(2))  # type: ignore[no-any-return]


def _split(x: Tensor, heads: int, parts: int = 0) -> Tensor:
    """[batch, pos, head * d] to [batch, head, pos, d]; with ``parts``, [batch, head, part, pos, d]."""
    shape = (heads, parts, -1) if parts else (heads, -1)
    return x.view(*x.shape[:2], *shape).movedim(1, -2)


def _hidden(x: Tensor, width: int | None = None) -> Tensor:
    """[query, key]: whether a key comes after the query, or ``width`` tokens before it or more."""
    query, key = torch.arange(x.shape[1])[:, None], torch.arange(x.shape[1])
    return ((key > query) | (query - key >= (width or x.shape[1]))).to(x.device)


def _angles(x: Tensor, size: int, base: float) -> Tensor:
    """The angles [pos, size / 2] by which pairs of numbers are turned."""
    speeds = base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    return (torch.arange(x.shape[1])[:, None] * speeds).to(x.device)


def _turned(y: Tensor, base: float) -> Tensor:
    """Vectors [batch, head, pos, d] of which halves are rotated with each other."""
    angles, (one, other) = _angles(y[:, 0], y.shape[-1], base), y.chunk(2, -1)
    return torch.cat([one * angles.cos() - other * angles.sin(), other * angles.cos() + one * angles.sin()], -1)


def _rotated(m: Any, q: Tensor, k: Tensor, v: Tensor, layer: int, see: See) -> Tensor:
    size = m.rotary_dim or q.shape[-1]
    angles = _angles(q[:, 0], size, 10000.0)

    def turned(y: Tensor) -> Tensor:
        even, odd, rest = y[..., 0:size:2], y[..., 1:size:2], y[..., size:]
        pairs = even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin()
        return torch.cat([torch.stack(pairs, -1).flatten(-2), rest], -1)

    scale = q.shape[-1] ** -0.5
    z = by_head(turned(q), turned(k), v, _hidden(q[:, 0]), layer, see, lambda _, scores: scores * scale)
    return m.out_proj(z.flatten(2))  # type: ignore[no-any-return]


def _alibi(x: Tensor, heads: int, scale: float) -> Callable[[int, Tensor], Tensor]:
    """Scores that fall with the distance of the key, by a slope of each head: a geometric sequence that begins at its own ratio, which
    is 2^(-8 / heads) for a power of two. Other numbers of heads take every other slope of twice as many for those that are missing."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (n + 1) / power) for n in range(power)] + [2 ** (-4 * (2 * n + 1) / power) for n in range(heads - power)]
    distance = (torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])).to(x)
    return lambda head, products: products * scale - slopes[head] * distance
