"""Llama and the many models built like it: rotary embeddings, an MLP, and key/value heads shared by groups of query heads.

Every node is a *query* head: ``head[l,h].k`` is the key as head h alone sees it, so one head of a group can be patched. In some
types, some layers see only the last tokens (a sliding window); the edges from keys and values then reach no further. If the MLP
is a mixture of experts, the experts of a token are chosen inside ``mlp``, by ``router``. Granite scales the embedding and the
output of each block before they are added to the stream; ``embed``, ``attn`` and ``mlp`` are the values before this scaling. Heads of
gpt-oss and some others have a sink, so that their patterns add up to less than 1.
"""

from __future__ import annotations

from typing import Any

from circuitry.architecture import sliding, transformer
from circuitry.errors import ModelError

EVERYWHERE = ("ministral3", "mistral", "mixtral", "phi3", "phimoe", "qwen3_moe", "starcoder2")
"""Types that put a sliding window in every layer, if their config gives a width."""
BY_LAYER = (
    *("cwm", "dots1", "exaone_moe", "flint", "gpt_oss", "granite_swa", "mellum", "mimo_v2_flash", "ministral"),
    *("qwen2", "qwen2_moe", "qwen3", "smollm3"),
)
"""Types whose config says for each layer whether it has one. All other types have none, even if their config gives a width."""


def windows(config: Any) -> dict[int, int]:
    """The width of every layer that has a sliding window: a token sees itself and the width - 1 tokens before it."""
    if config.model_type in BY_LAYER:
        return sliding(config)
    width = getattr(config, "sliding_window", None) if config.model_type in EVERYWHERE else None
    return {} if width is None else dict.fromkeys(range(config.num_hidden_layers), width)


def sizes(config: Any) -> dict[str, int]:
    """Raises ModelError for HyperCLOVA X with norms after its blocks."""
    if getattr(config, "use_post_norm", False):
        raise ModelError(
            f"{config.model_type} with use_post_norm is refused: it normalises what attention and MLP give before adding it"
        )
    return {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0}


ARCHITECTURE = transformer(
    name="llama",
    model_types=(
        *("llama", "mistral", "ministral", "ministral3", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
        *("arcee", "aria_text", "cwm", "dots1", "ernie4_5", "ernie4_5_moe", "exaone_moe", "gemma", "glm", "glm4_moe", "granite"),
        *("helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hyperclovax", "internlm3", "iquestcoder", "mellum"),
        *("minimax_m2", "nemotron", "olmo", "olmoe", "phi3", "phimoe", "seed_oss", "smollm3", "solar_open", "starcoder2"),
        *("flint", "gpt_oss", "granite_swa", "mimo_v2_flash"),
    ),
    citations=(
        "Touvron et al. 2023, Llama 2, arXiv:2307.09288",
        "Jiang et al. 2023, Mistral 7B, arXiv:2310.06825",
        "Qwen Team 2024, Qwen2 Technical Report, arXiv:2407.10671",
        "Ainslie et al. 2023, GQA, arXiv:2305.13245",
    ),
    sizes=sizes,
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 30, "head": 9, "parallel": 0},
    windows=windows,
)
