"""Llama and the many models built like it: rotary embeddings, an MLP, and key/value heads shared by groups of query heads.

Every node is a *query* head: ``head[l,h].k`` is the key as head h alone sees it, so one head of a group can be patched.
Where the MLP is one of experts, which of them a token is sent to is decided inside ``mlp``. Granite multiplies the embedding
and what a block gives before adding it to the stream; ``embed``, ``attn`` and ``mlp`` are the values before that.
"""

from circuitry.architecture import transformer

GRAPH = transformer(
    name="llama",
    model_types=(
        *("llama", "mistral", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
        *("arcee", "cwm", "ernie4_5", "gemma", "glm", "granite", "helium", "hunyuan_v1_dense", "internlm3", "nemotron"),
        *("olmo", "olmoe", "phi3", "phimoe", "seed_oss", "smollm3", "starcoder2"),
    ),
    citations=(
        "Touvron et al. 2023, Llama 2, arXiv:2307.09288",
        "Jiang et al. 2023, Mistral 7B, arXiv:2310.06825",
        "Qwen Team 2024, Qwen2 Technical Report, arXiv:2407.10671",
        "Ainslie et al. 2023, GQA, arXiv:2305.13245",
    ),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 30, "head": 9, "parallel": 0},
)
