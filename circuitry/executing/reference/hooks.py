"""The reference's runs: a stock model in plain PyTorch hooks that record every node and edit some, with its own attention and recurrences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...native.first_value import FirstValue
from .naive import attention, delta_rule, mamba, mamba2, rwkv, rwkv7

Key: TypeAlias = tuple[str, tuple[int, ...], str]
"""Family, indices, port: ("head", (1, 0), "q")."""
Edit: TypeAlias = Callable[[Tensor, int | None], Tensor]
"""From a value [batch, pos, ...] and None, or from a state [batch, ...] and its position, to the value that replaces it."""
Edits: TypeAlias = Mapping[Key, Edit]
See: TypeAlias = Callable[..., Tensor]
Values: TypeAlias = dict[Key, Tensor]


_SHORT = {"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"}
Naive: TypeAlias = Callable[..., Tensor]
"""From a block, its input, the layer's number and ``see``, and what layers share beside the stream if they do, to its output."""


@dataclass(frozen=True)
class _Names:
    """Where a kind of model keeps its modules. ``mixers``: a layer's attribute to the family and the equations of that block,
    None for attention (``"self_attn.o_norm"``: if it has this part); ``gated``: attention has gates; ``middle`` is the norm before the
    MLP, or the MLP where there is none; ``after`` are the norms whose output is added in the place of a block's, by the block's
    attribute; ``instead`` are the names of a layer that has an attribute; ``short`` are the paper's names."""

    embed: str
    layers: str
    norm: str
    mixers: Mapping[str, tuple[str, Naive | None]]
    middle: str = ""
    mlp: str = "mlp"
    gated: bool = False
    after: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, _Names] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=lambda: _SHORT)


_RWKV_SHORT = {"x": "shift_in", "c": "wkv_in", "h": "wkv_state", "g": "gate", "s": "wkv_out", "o": "mixer_out"}


_MAMBA = _Names("backbone.embeddings", "backbone.layers", "backbone.norm_f", {"mixer": ("mixer_out", mamba.mixer)})


_GPT2 = _Names("transformer.wte", "transformer.h", "transformer.ln_f", {"attn": ("attn", None)}, "ln_2")


_LLAMA = _Names("model.embed_tokens", "model.layers", "model.norm", {"self_attn": ("attn", None)}, "post_attention_layernorm")


_AFTER = {"self_attn": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
_GEMMA2 = replace(_LLAMA, middle="pre_feedforward_layernorm", after=_AFTER)
_OLMO2 = replace(_LLAMA, middle="mlp", after=_AFTER)
_GLM4 = replace(_LLAMA, after={"self_attn": "post_self_attn_layernorm", "mlp": "post_mlp_layernorm"})


_LINEAR = replace(_LLAMA, mixers={"self_attn": ("attn", None), "linear_attn": ("mixer_out", delta_rule.mixer)}, gated=True)


_KINDS = {
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA2),
    **dict.fromkeys(("olmo2", "olmo3", "flex_olmo", "exaone4"), _OLMO2),
    **dict.fromkeys(("glm4", "kolibri1"), _GLM4),
    "gpt_neox": _Names(
        "gpt_neox.embed_in",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        {"attention": ("attn", None)},
        "post_attention_layernorm",
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "llama": _LLAMA,
    "jamba": _Names(
        "model.embed_tokens",
        "model.layers",
        "model.final_layernorm",
        {"self_attn": ("attn", None), "mamba": ("mixer_out", mamba.mixer)},
        "pre_ff_layernorm",
        "feed_forward",
    ),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _LINEAR),
    "olmo_hybrid": replace(_LINEAR, gated=False, instead={"self_attn": _OLMO2}),
    "kimi_linear": replace(
        _LINEAR,
        mixers={"self_attn.kv_b_proj": ("attn", None), "self_attn.o_norm": ("mixer_out", delta_rule.mixer)},
        gated=False,
    ),
    "falcon_mamba": _MAMBA,
    "mamba": _MAMBA,
    "mamba2": replace(_MAMBA, mixers={"mixer": ("mixer_out", mamba2.mixer)}),
    "rwkv": _Names(
        "rwkv.embeddings",
        "rwkv.blocks",
        "rwkv.ln_out",
        {"attention": ("mixer_out", rwkv.time_mixing), "feed_forward": ("mlp", rwkv.channel_mixing)},
        "ln2",
        mlp="",
        short=_RWKV_SHORT,
    ),
    "rwkv7": _Names(
        "emb",
        "blocks",
        "ln_out",
        {"att": ("mixer_out", rwkv7.time_mixing), "ffn": ("mlp", rwkv7.channel_mixing)},
        "ln2",
        mlp="",
        short=_RWKV_SHORT,
    ),
}


def unedited(key: Key) -> Key:
    """The key of what a node was before it was edited.

    >>> unedited(("head", (1, 0), "q"))
    ('head', (1, 0), 'q unedited')
    """
    return *key[:2], f"{key[2]} unedited"


class Reference:
    """Runs a model with some nodes edited and all nodes recorded. Values are [batch, pos, ...]; a state's is [batch, pos, d_inner, d_state]."""

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.names = _KINDS.get(hf.config.model_type, _KINDS["llama"])
        self.parallel = bool(getattr(hf.config, "use_parallel_residual", False))

    @torch.no_grad()
    def run(self, ids: Tensor, edits: Edits) -> Values:
        """Every node's value in one forward pass on ``ids`` [batch, pos], with ``edits`` applied as they come by.

        What an edited node was before that is there too, under its key as ``unedited`` names it.
        """
        values: Values = {}

        def pass_through(key: Key, value: Tensor, at: int | None = None) -> Tensor:
            if key in edits:  # a copy, since an edit writes into what it is given, and the model may use the tensor elsewhere
                keep(unedited(key), value, at)
                value = edits[key](value.clone(), at)
            keep(key, value, at)
            return value

        def keep(key: Key, value: Tensor, at: int | None) -> None:
            if at is None:
                values[key] = value.detach().clone()
            else:
                values[key] = torch.cat([values[key], value[:, None]], 1) if at else value[:, None].clone()

        with ExitStack() as stack:
            self._hook(stack, pass_through)
            pass_through(("logits", (), ""), self.hf(ids, use_cache=False).logits)
        return values

    def _hook(self, stack: ExitStack, see: See) -> None:
        def output(module: Any, key: Key) -> None:
            def hook(_: Any, __: Any, out: Any) -> Any:
                return (see(key, out[0]), *out[1:]) if isinstance(out, tuple) else see(key, out)

            stack.callback(module.register_forward_hook(hook).remove)

        def entry(module: Any, key: Key) -> None:
            def hook(_: Any, args: Any, kwargs: Any) -> Any:
                if args:
                    return (see(key, args[0]), *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": see(key, kwargs["hidden_states"])}

            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

        def equations(module: Any, number: int, naive: Naive) -> None:
            """Replace the block's output by what its equations give, whatever it computed."""

            def hook(m: Any, args: Any, kwargs: Any, out: Any) -> Any:
                shared = (arg for arg in args[1:] if isinstance(arg, FirstValue))
                result = naive(m, args[0] if args else kwargs["hidden_states"], number, see, *shared)
                return (result, *out[1:]) if isinstance(out, tuple) else result

            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

        names = self.names
        output(self.hf.get_submodule(names.embed), ("embed", (), ""))
        layers = self.hf.get_submodule(names.layers)
        for number, layer in enumerate(layers):
            entry(layer, ("resid", (number,), ""))
            names = next((other for part, other in self.names.instead.items() if hasattr(layer, part)), self.names)
            for attribute, (family, naive) in names.mixers.items():
                name, _, part = attribute.partition(".")
                mixer = getattr(layer, name, None)
                if mixer is None or (part and not hasattr(mixer, part)):
                    continue  # a hybrid's layer has one of them
                if naive is not None:
                    equations(mixer, number, naive)
                elif names.gated:
                    stack.callback(mixer.q_proj.register_forward_hook(_gates(number, mixer.head_dim, see)).remove)
                output(getattr(layer, names.after.get(name, name)), (family, (number,), ""))
            if names.middle and not self.parallel:
                _around(stack, layer, getattr(layer, names.middle), ("resid_mid", (number,), ""), see)
            if names.middle and names.mlp:
                output(getattr(layer, names.after.get(names.mlp, names.mlp)), ("mlp", (number,), ""))
        entry(self.hf.get_submodule(names.norm), ("resid", (len(layers),), ""))
        if any(naive is None for _, naive in names.mixers.values()):
            self._own_attention(stack, see)

    def _own_attention(self, stack: ExitStack, see: See) -> None:
        """Swap transformers' attention function for ours, one head at a time."""
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        def attend(
            module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
            scaling: float | None = None, softcap: float | None = None, s_aux: Tensor | None = None, **_: Any,
        ) -> Any:  # fmt: skip
            return attention.attend(module, q, k, v, mask, scaling, softcap, s_aux, see), None

        AttentionInterface.register("circuitry_reference", attend)
        AttentionMaskInterface.register("circuitry_reference", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        before = self.hf.config._attn_implementation
        self.hf.set_attn_implementation("circuitry_reference")
        stack.callback(self.hf.set_attn_implementation, before)


def _gates(layer: int, width: int, see: See) -> Callable[..., Tensor]:
    """A hook after a query projection: each head has a query of ``width`` numbers, then a gate of as many."""

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        parts = list(out.split(width, -1))  # type: ignore[no-untyped-call]
        for head in range(len(parts) // 2):
            parts[2 * head + 1] = see(("attn_gate", (layer, head), ""), parts[2 * head + 1])
        return torch.cat(parts, -1)

    return hook


def _around(stack: ExitStack, layer: Any, norm: Any, key: Key, see: See) -> None:
    """The stream in the middle of a layer: a change there goes into the MLP and, past it, into the layer's output."""
    moved: list[Tensor] = []

    def into(_: Any, args: tuple[Tensor]) -> Tensor:
        value = see(key, args[0])
        moved[:] = [value - args[0]]
        return value

    def out(_: Any, __: Any, out: Any) -> Any:
        return (out[0] + moved[0], *out[1:]) if isinstance(out, tuple) else out + moved[0]

    stack.callback(norm.register_forward_pre_hook(into).remove)
    stack.callback(layer.register_forward_hook(out).remove)
