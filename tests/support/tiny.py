"""Tiny random-weight models of every supported type; all parameters perturbed, so that biases and norms matter."""

from __future__ import annotations

from typing import Any

import torch

from circuitry.native.own import OWN, causal_class, config_class

JAMBA: dict[str, Any] = {
    "num_hidden_layers": 4,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_d_state": 4,
    "mamba_dt_rank": 3,
}
LINEAR: dict[str, Any] = {
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 6,
}
QWEN3_NEXT = LINEAR | {"head_dim": 4, "linear_conv_kernel_dim": 3}
KIMI_LINEAR: dict[str, Any] = {
    **{key: LINEAR[key] for key in ("num_hidden_layers", "layer_types", "intermediate_size", "num_attention_heads")},
    "num_key_value_heads": 4,
    "mlp_layer_types": ["dense"] * 3,
    "kv_lora_rank": 6,
    "qk_rope_head_dim": 2,
    "qk_nope_head_dim": 4,
    "v_head_dim": 5,
    "linear_head_dim": 6,
    "linear_num_heads": 3,
    "linear_conv_kernel_dim": 3,
}
RWKV7 = {"intermediate_size": 32, "head_dim": 8, "decay_rank": 3, "rate_rank": 5, "value_rank": 2, "gate_rank": 6}
MAMBA2 = {"state_size": 4, "time_step_min": 0.1, "time_step_max": 1.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 32, "num_attention_heads": 2},
    "gpt_neox-sequential": {"intermediate_size": 32, "num_attention_heads": 2, "use_parallel_residual": False},
    "gpt2": {"n_head": 2},
    "llama": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
    "mistral": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 64},
    "qwen2": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen3": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
    "mamba": {"state_size": 4, "time_step_rank": 3},
    "falcon_mamba": {"state_size": 4, "time_step_rank": 3},
    "jamba": JAMBA | {"num_experts": 1},
    "jamba-moe": JAMBA | {"num_experts": 4},
    "mamba2": MAMBA2 | {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4},
    "mamba2-single": MAMBA2
    | {
        "num_heads": 2,
        "head_dim": 16,
        "n_groups": 1,
        "conv_kernel": 3,
        "time_step_limit": (0.1, 0.8),
        "use_conv_bias": False,
        "use_bias": True,
        "layer_norm_epsilon": 1e-2,
        "residual_in_fp32": False,
    },
    "qwen3_next": QWEN3_NEXT | {"num_experts": 0},
    "kimi_linear": KIMI_LINEAR,
    "rwkv": {"attention_hidden_size": 12, "intermediate_size": 32},
    "rwkv7": RWKV7,
    "gemma2": {
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "query_pre_attn_scalar": 7,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "olmo2": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
}
LLAMA: dict[str, Any] = {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS: dict[str, Any] = LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT: dict[str, Any] = LLAMA | {
    "q_lora_rank": 6,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 5,
}
OTHERS: dict[str, dict[str, Any]] = {
    "arcee": LLAMA,
    "cwm": LLAMA,
    "deepseek_v2": LATENT | ROUTED | {"first_k_dense_replace": 1, "num_key_value_heads": 4},
    "deepseek_v3": LATENT | ROUTED | {"first_k_dense_replace": 1, "num_key_value_heads": 4, "n_group": 2, "topk_group": 1},
    "ernie4_5": LLAMA,
    "flint": EXPERTS | {"head_dim": 4},
    "exaone4": LLAMA | {"head_dim": 4},
    "flex_olmo": EXPERTS,
    "gemma": LLAMA | {"head_dim": 4},
    "gemma3_text": LLAMA | {"head_dim": 4, "query_pre_attn_scalar": 7, "final_logit_softcapping": 3.0},
    "glm": LLAMA | {"head_dim": 4},
    "glm4": LLAMA | {"head_dim": 4},
    "glm4_moe_lite": LATENT | ROUTED | {"num_key_value_heads": 4},
    "gpt_bigcode": {"n_head": 2},
    "gpt_oss": LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 4},
    "granite": LLAMA
    | {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "logits_scaling": 2.0},
    "granite_swa": LLAMA | {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3},
    "helium": LLAMA | {"head_dim": 4},
    "hunyuan_v1_dense": LLAMA | {"head_dim": 4},
    "internlm3": LLAMA,
    "kolibri1": EXPERTS | {"head_dim": 4, "shared_expert_intermediate_size": 16},
    "mimo_v2_flash": LLAMA | ROUTED | {"head_dim": 4, "v_head_dim": 6, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "minicpm3": LATENT | {"scale_emb": 3, "dim_model_base": 4, "num_key_value_heads": 4},
    "ministral": LLAMA | {"head_dim": 4},
    "kimi_linear-moe": KIMI_LINEAR
    | {
        "mlp_layer_types": ["dense", "dense", "sparse"],
        "moe_intermediate_size": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "mixtral": LLAMA | {"num_local_experts": 4},
    "nemotron": LLAMA,
    "olmo": LLAMA,
    "olmo3": LLAMA,
    "olmo_hybrid": LINEAR,
    "olmo_hybrid-rope": LINEAR
    | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "linear_allow_neg_eigval": False,
        "linear_num_key_heads": 4,
    },
    "olmoe": EXPERTS,
    "phi3": LLAMA,
    "phimoe": LLAMA | {"num_local_experts": 4},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS | {"head_dim": 4},
    "qwen3_5_moe_text": QWEN3_NEXT
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 8},
    "qwen3_5_text": QWEN3_NEXT
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0], "partial_rotary_factor": 1.0}},
    "seed_oss": LLAMA | {"head_dim": 4},
    "smollm3": LLAMA,
    "starcoder2": LLAMA,
}
"""Types that use a graph of the above as it is: ``test_model_types`` has every one, the other tests none."""


def config(kind: str, layers: int = 3, vocab: int = 61, **changes: Any) -> Any:
    from transformers import AutoConfig

    model_type = kind.split("-")[0]
    sizes = {
        "vocab_size": vocab,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    given = {**sizes, **(CONFIGS | OTHERS)[kind], **changes}
    return config_class(model_type)(**given) if model_type in OWN else AutoConfig.for_model(model_type, **given)


def stock(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """A stock Hugging Face model, in eval mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    made = config(kind, layers, **changes)
    own = causal_class(made) if made.model_type in OWN else None
    model = (own(made) if own else AutoModelForCausalLM.from_config(made)).eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, parameter in model.named_parameters():
            if "A_log" in name and hasattr(model.config, "linear_conv_kernel_dim"):  # random ones would forget at once
                parameter.sub_(parameter.max() + 1)
    return model


def model(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """The same, loaded by circuitry."""
    import circuitry as ct

    return ct.load(stock(kind, layers, dtype, seed, **changes), dtype=dtype)
