"""Where each type of model keeps its modules, and the equations of its blocks, for the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torch import Tensor

from .naive import delta_rule, mamba, mamba2, own_attention, rg_lru, rwkv, rwkv7, short_conv

_SHORT = {"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"}
Naive: TypeAlias = Callable[..., Tensor]
"""From a block, its input, the layer's number and ``see``, and what layers share beside the stream if they do, to its output."""


@dataclass(frozen=True)
class Names:
    """Where a type of model keeps its modules.

    ``mixers``: a layer's attribute, with the block's class after a slash if a layer may have blocks of several kinds there, to the
    family and the equations of that block, None for attention and MLPs. ``middle`` is the norm before the MLP, or the MLP where
    there is none. ``gated``: attention has gates. ``after``: the norms whose output is added in the place of a block's, by the
    block's attribute. ``instead``: other names, for layers that have an attribute. ``short`` are the paper's names.
    """

    embed: str
    layers: str
    norm: str
    mixers: Mapping[str, tuple[str, Naive | None]]
    middle: str = ""
    mlp: str = "mlp"
    gated: bool = False
    after: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, Names] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=lambda: _SHORT)
    writers: tuple[str, ...] = ("attn", "mlp", "experts", "mixer_out")
    """The families whose values are added to the stream, of those that the model has."""


_RWKV_SHORT = {"x": "shift_in", "c": "wkv_in", "h": "wkv_state", "g": "gate", "s": "wkv_out", "o": "mixer_out"}
_MAMBA = Names("backbone.embeddings", "backbone.layers", "backbone.norm_f", {"mixer": ("mixer_out", mamba.mixer)}, mlp="")
_GPT2 = Names("transformer.wte", "transformer.h", "transformer.ln_f", {"attn": ("attn", None)}, "ln_2")


def _own(
    layers: str,
    attention: str,
    equations: Naive,
    middle: str = "ln_2",
    mlp: str = "mlp",
    embed: str = "transformer.wte",
    norm: str = "transformer.ln_f",
) -> Names:
    """Names of a type whose attention has its own equations."""
    return Names(embed, layers, norm, {attention: ("attn", equations)}, middle, mlp)


_LLAMA = Names("model.embed_tokens", "model.layers", "model.norm", {"self_attn": ("attn", None)}, "post_attention_layernorm")
_PARALLEL = replace(_LLAMA, middle="")
_AFTER = {"self_attn": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
_GEMMA2 = replace(_LLAMA, middle="pre_feedforward_layernorm", after=_AFTER)
_OLMO2 = replace(_LLAMA, middle="mlp", after=_AFTER)
_GLM4 = replace(_LLAMA, after={"self_attn": "post_self_attn_layernorm", "mlp": "post_mlp_layernorm"})
_LFM2 = Names(
    "model.embed_tokens",
    "model.layers",
    "model.embedding_norm",
    {"self_attn": ("attn", None), "conv": ("mixer_out", short_conv.block)},
    "ffn_norm",
    "feed_forward",
)
_BAMBA = Names(
    "model.embed_tokens",
    "model.layers",
    "model.final_layernorm",
    {"self_attn": ("attn", None), "mamba": ("mixer_out", mamba2.mixer)},
    "pre_ff_layernorm",
    "feed_forward",
)
_LINEAR = replace(_LLAMA, mixers={"self_attn": ("attn", None), "linear_attn": ("mixer_out", delta_rule.mixer)}, gated=True)


_KINDS = {
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA2),
    **dict.fromkeys(("olmo2", "olmo3", "flex_olmo", "exaone4"), _OLMO2),
    **dict.fromkeys(("glm4", "kolibri1"), _GLM4),
    "apertus": replace(_LLAMA, middle="feedforward_layernorm"),
    "biogpt": replace(
        _LLAMA,
        embed="biogpt.embed_tokens",
        layers="biogpt.layers",
        norm="biogpt.layer_norm",
        middle="final_layer_norm",
        mlp="fc2",
    ),
    "cohere": _PARALLEL,
    "cohere2": _PARALLEL,
    "cohere2_moe": _PARALLEL,
    "granitemoe": replace(_LLAMA, mlp="block_sparse_moe"),
    "persimmon": replace(_LLAMA, norm="model.final_layernorm"),
    "phi": replace(_PARALLEL, norm="model.final_layernorm"),
    "vaultgemma": replace(_LLAMA, middle="pre_feedforward_layernorm"),
    "bloom": _own(
        "transformer.h", "self_attention", own_attention.bloom, "post_attention_layernorm", embed="transformer.word_embeddings"
    ),
    "codegen": _own("transformer.h", "attn", own_attention.codegen, ""),
    "falcon": _own(
        "transformer.h", "self_attention", own_attention.falcon, "post_attention_layernorm", embed="transformer.word_embeddings"
    ),
    "gpt_neo": _own("transformer.h", "attn.attention", own_attention.gpt_neo),
    "gpt_neox_japanese": _own(
        "gpt_neox_japanese.layers",
        "attention",
        own_attention.gpt_neox_japanese,
        "post_attention_layernorm",
        embed="gpt_neox_japanese.embed_in",
        norm="gpt_neox_japanese.final_layer_norm",
    ),
    "gptj": _own("transformer.h", "attn", own_attention.gptj, ""),
    "mpt": _own("transformer.blocks", "attn", own_attention.mpt, "norm_2", "ffn", norm="transformer.norm_f"),
    "xglm": _own(
        "model.layers",
        "self_attn",
        own_attention.xglm,
        "final_layer_norm",
        "fc2",
        embed="model.embed_tokens",
        norm="model.layer_norm",
    ),
    "opt": Names(
        "model.decoder.embed_tokens",
        "model.decoder.layers",
        "model.decoder.final_layer_norm",
        {"self_attn": ("attn", None)},
        "final_layer_norm",
        "fc2",
    ),
    "gpt_neox": Names(
        "gpt_neox.embed_in",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        {"attention": ("attn", None)},
        "post_attention_layernorm",
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "llama": _LLAMA,
    "jamba": Names(
        "model.embed_tokens",
        "model.layers",
        "model.final_layernorm",
        {"self_attn": ("attn", None), "mamba": ("mixer_out", mamba.mixer)},
        "pre_ff_layernorm",
        "feed_forward",
    ),
    "lfm2": _LFM2,
    "lfm2_moe": _LFM2,
    "recurrent_gemma": Names(
        "model.embed_tokens",
        "model.layers",
        "model.final_norm",
        {
            "temporal_block/RecurrentGemmaAttention": ("attn", None),
            "temporal_block/RecurrentGemmaRecurrentBlock": ("mixer_out", rg_lru.block),
        },
        "channel_pre_norm",
        "mlp_block",
    ),
    "bamba": _BAMBA,
    "falcon_h1": _BAMBA,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _LINEAR),
    "olmo_hybrid": replace(_LINEAR, gated=False, instead={"self_attn": _OLMO2}),
    "kimi_linear": replace(
        _LINEAR,
        mixers={
            "self_attn/KimiLinearAttention": ("attn", None),
            "self_attn/KimiLinearDeltaAttention": ("mixer_out", delta_rule.mixer),
        },
        gated=False,
    ),
    "falcon_mamba": _MAMBA,
    "granitemoehybrid": replace(
        _BAMBA,
        norm="model.norm",
        mixers={**_BAMBA.mixers, "block_sparse_moe": ("experts", None)},
        middle="post_attention_layernorm",
        mlp="shared_mlp",
    ),
    "nemotron_h": Names(
        "model.embeddings",
        "model.layers",
        "model.norm_f",
        {
            "mixer/NemotronHAttention": ("attn", None),
            "mixer/NemotronHMamba2Mixer": ("mixer_out", mamba2.mixer),
            "mixer/NemotronHMLP": ("mlp", None),
            "mixer/NemotronHMoE": ("mlp", None),
        },
        mlp="",
    ),
    "mamba": _MAMBA,
    "mamba2": replace(_MAMBA, mixers={"mixer": ("mixer_out", mamba2.mixer)}),
    "zamba2": Names(
        "model.embed_tokens",
        "model.layers",
        "model.final_layernorm",
        {
            "mamba": ("mixer_out", mamba2.mixer),
            "mamba_decoder.mamba": ("mixer_out", mamba2.mixer),
            "shared_transformer.self_attn": ("attn", None),
            "shared_transformer.feed_forward": ("mlp", None),
        },
        mlp="",
        writers=("mixer_out",),
    ),
    "rwkv": Names(
        "rwkv.embeddings",
        "rwkv.blocks",
        "rwkv.ln_out",
        {"attention": ("mixer_out", rwkv.time_mixing), "feed_forward": ("mlp", rwkv.channel_mixing)},
        "ln2",
        mlp="",
        short=_RWKV_SHORT,
    ),
    "rwkv7": Names(
        "emb",
        "blocks",
        "ln_out",
        {"att": ("mixer_out", rwkv7.time_mixing), "ffn": ("mlp", rwkv7.channel_mixing)},
        "ln2",
        mlp="",
        short=_RWKV_SHORT,
    ),
}


def names_of(model_type: str) -> Names:
    """The names of a type; of one that is not listed, those of Llama, with which most types agree.

    >>> names_of("mistral").norm
    'model.norm'
    """
    return _KINDS.get(model_type, _LLAMA)
