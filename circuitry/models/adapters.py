"""Types whose attention transformers computes in code of its own: the part of it that makes z is replaced by ``attention.attend``.

The scores are made in the stock order of operations, so that the logits have the same bits. Four types also add the stream inside
their blocks, or change a block's output later; their layers are replaced too, so that a block's output is what it adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .attention import attend, products, rows
from .gates import replace_method
from .packed import Inside


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _masked(scores: Tensor, mask: Tensor | None, inside: Inside | None) -> Tensor:
    return scores if mask is None else scores + rows(mask, inside)


def _gpt_neo(self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores = products(_wide(q), _wide(k), inside)
        count = scores.shape[-1]
        seen = self.bias[..., :count] if inside else self.bias[..., count - q.shape[2] : count, :count]
        return _masked(torch.where(rows(seen, inside), scores, torch.finfo(scores.dtype).min), attention_mask, inside)

    z, pattern = attend(self, query, key, value, scores)
    return z.transpose(1, 2), pattern


def _gptj(self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        return _masked(products(_wide(q), _wide(k), inside) / self.scale_attn, attention_mask, inside)

    z, pattern = attend(self, query, key, value, scores)
    return z.transpose(1, 2), pattern


def _codegen(self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores: Tensor = _masked(products(_wide(q), _wide(k), inside), attention_mask, inside) / self.scale_attn
        return scores

    z, pattern = attend(self, query, key, value, scores)
    return z.transpose(1, 2), pattern


def _gpt_neox_japanese(self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        return _masked(_scaled(q, k, inside, None, 1.0, 1.0 / self.norm_factor), attention_mask, inside)

    z, pattern = attend(self, query, key, value, scores)
    return z.transpose(1, 2), pattern


def _scaled(q: Tensor, k: Tensor, inside: Inside | None, bias: Tensor | None, beta: float, alpha: float) -> Tensor:
    """beta * bias + alpha * products, in one operation where tokens are not packed."""
    if inside is not None:
        scores = products(q, k, inside) * alpha
        return scores if bias is None else scores + beta * rows(bias, inside)
    heads, size = q.flatten(0, 1), (*q.shape[:3], k.shape[2])
    added = q.new_zeros(1) if bias is None else bias.expand(len(q), -1, -1, -1).flatten(0, 1)
    return torch.baddbmm(added, heads, k.flatten(0, 1).mT, beta=beta, alpha=alpha).view(size)


def _extended(cache: Any, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values with those of the tokens that were generated before."""
    both: tuple[Tensor, Tensor] = (k, v) if cache is None else cache.update(k, v, layer)
    return both


def _bloom(
    self: Any,
    hidden_states: Tensor,
    residual: Any,
    *,
    alibi: Tensor,
    attention_mask: Tensor | None,
    layer_past: Any = None,
    **_: Any,
) -> Any:
    """``alibi`` is [row, head, 1, key pos]."""

    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores = _scaled(q, k, inside, alibi, self.beta, self.inv_norm_factor)
        return _masked(scores, attention_mask, inside)

    q, k, v = self._reshape(self.query_key_value(hidden_states))
    k, v = _extended(layer_past, k, v, self.layer_idx)
    z, pattern = attend(self, q, k, v, scores)
    return self.dense(z.flatten(2)), pattern


def _mpt(
    self: Any, hidden_states: Tensor, position_bias: Tensor, attention_mask: Tensor, past_key_values: Any = None, **_: Any
) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores = products(q, k, inside) * self.softmax_scale
        scores = scores + rows(position_bias[..., -scores.shape[-1] :], inside)
        masked: Tensor = scores.masked_fill(rows(attention_mask, inside), torch.finfo(q.dtype).min)
        return masked

    mixed = self.Wqkv(hidden_states)
    mixed = mixed.clamp(-self.clip_qkv, self.clip_qkv) if self.clip_qkv else mixed
    q, k, v = (x.unflatten(2, (self.n_heads, self.head_dim)).transpose(1, 2) for x in mixed.chunk(3, 2))
    k, v = _extended(past_key_values, k, v, self.layer_idx)
    z, pattern = attend(self, q, k, v, scores)
    return self.out_proj(z.flatten(2)), pattern


def _falcon(
    self: Any, hidden_states: Tensor, attention_mask: Tensor, position_embeddings: Any, layer_past: Any = None, **_: Any
) -> Any:
    from transformers.models.falcon.modeling_falcon import apply_rotary_pos_emb

    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        return products(q, k, inside) / math.sqrt(self.head_dim) + rows(attention_mask, inside)

    q, k, v = (x.transpose(1, 2) for x in self._split_heads(self.query_key_value(hidden_states)))
    q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
    k, v = _extended(layer_past, k, v, self.layer_idx)
    z, pattern = attend(self, q, k, v, scores)
    return self.dense(z.flatten(2)), pattern


def _xglm(self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, past_key_values: Any = None, **_: Any) -> Any:
    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores = _masked(products(q, k, inside), attention_mask, inside)
        return scores.clamp(min=torch.finfo(scores.dtype).min)

    q, k, v = self.q_proj(hidden_states) * self.scaling, self.k_proj(hidden_states), self.v_proj(hidden_states)
    q, k, v = (x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))
    k, v = _extended(getattr(past_key_values, "self_attention_cache", past_key_values), k, v, self.layer_idx)
    z, pattern = attend(self, q, k, v, scores)
    return self.out_proj(z.flatten(2)), pattern


# --- layers ----------------------------------------------------------------------------------------------------------------


def _bloom_layer(self: Any, hidden_states: Tensor, alibi: Tensor, **options: Any) -> Any:
    alibi = alibi.view(-1, self.num_heads, 1, alibi.shape[-1])
    # Stock blocks add the stream that they are given. Here they are given none, and it is added outside.
    added, pattern = self.self_attention(self.input_layernorm(hidden_states), 0.0, alibi=alibi, **options)
    middle = hidden_states + added
    return middle + self.mlp(self.post_attention_layernorm(middle), 0.0), pattern


def _mpt_layer(self: Any, hidden_states: Tensor, position_bias: Tensor, layer_past: Any = None, **options: Any) -> Any:
    normed = self.norm_1(hidden_states)
    added, pattern = self.attn(normed, position_bias=position_bias[None], past_key_values=layer_past, **options)
    middle = added + hidden_states
    return self.ffn(self.norm_2(middle), 0.0) + middle, pattern


def _falcon_layer(self: Any, hidden_states: Tensor, **options: Any) -> Any:
    two = getattr(self, "ln_attn", None) is not None
    normed = self.ln_attn(hidden_states) if two else self.input_layernorm(hidden_states)
    added, pattern = self.self_attention(normed, **options)
    if not self.config.parallel_attn:
        middle = hidden_states + added
        return middle + self.mlp(self.post_attention_layernorm(middle)), pattern
    # Stock Falcon adds the attention's output into the tensor that the MLP returned.
    return hidden_states + (self.mlp(self.ln_mlp(hidden_states) if two else normed) + added), pattern


def _opt_layer(self: Any, hidden_states: Tensor, **options: Any) -> Tensor:
    """The stock layer flattens rows and positions before its MLP."""
    added, _ = self.self_attn(hidden_states=self.self_attn_layer_norm(hidden_states), **options)
    middle = hidden_states + added
    return middle + self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(middle))))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Adapter:
    """Methods by name that replace those of the attention module, and of the layer that it is in."""

    attention: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    layer: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


_ADAPTERS = {
    "gpt_neo": _Adapter({"_attn": _gpt_neo}),
    "gptj": _Adapter({"_attn": _gptj}),
    "gpt_neox_japanese": _Adapter({"_attn": _gpt_neox_japanese}),
    "codegen": _Adapter({"_attn": _codegen}),
    "bloom": _Adapter({"forward": _bloom}, {"forward": _bloom_layer}),
    "mpt": _Adapter({"forward": _mpt}, {"forward": _mpt_layer}),
    "falcon": _Adapter({"forward": _falcon}, {"forward": _falcon_layer}),
    "xglm": _Adapter({"forward": _xglm}),
    "opt": _Adapter({}, {"forward": _opt_layer}),
}


def adapt(model: Any, layers: list[Any]) -> None:
    """Replace the methods of attention modules, and of the layers around them, that do not use transformers' attention interface.

    Nothing happens to a model of a type that uses it.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> adapt(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)), [])
    """
    adapter = _ADAPTERS.get(model.config.model_type, _Adapter())
    around = {id(child): parent for parent in model.modules() for child in parent.children()}
    for attention in layers:
        for name, method in adapter.attention.items():
            replace_method(attention, name, method)
        for name, method in adapter.layer.items():
            replace_method(around[id(attention)], name, method)
