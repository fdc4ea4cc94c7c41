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
MAMBA2 = {"state_size": 4, "time_step_min": 0.1, "time_step_max": 1.0}
ATTENDING: dict[str, Any] = {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
BAMBA: dict[str, Any] = ATTENDING | {
    "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 4, "mamba_d_conv": 3, "mamba_chunk_size": 4,
}  # fmt: skip
FALCON_H1: dict[str, Any] = BAMBA | {
    "mamba_d_ssm": 32, "embedding_multiplier": 3.0, "lm_head_multiplier": 0.5, "key_multiplier": 0.7, "mlp_multipliers": [1.5, 0.6],
    "attention_in_multiplier": 1.2, "attention_out_multiplier": 0.8, "ssm_in_multiplier": 1.3, "ssm_out_multiplier": 0.7,
    "ssm_multipliers": [0.6, 1.4, 0.8, 1.2, 0.5],
}  # fmt: skip
GRANITE_HYBRID: dict[str, Any] = BAMBA | {
    "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2, "shared_intermediate_size": 16,
    "residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "logits_scaling": 2.0,
}  # fmt: skip
NEMOTRON_H: dict[str, Any] = ATTENDING | {
    "head_dim": 4, "layers_block_type": ["linear_attention", "full_attention", "linear_attention", "mlp", "moe"],
    "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 4, "conv_kernel": 3, "chunk_size": 4,
    "time_step_min": 0.1, "n_routed_experts": 4, "moe_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16,
    "moe_latent_size": 8, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip
ZAMBA2: dict[str, Any] = {
    "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_mem_blocks": 2,
    "intermediate_size": 32, "num_attention_heads": 4, "n_mamba_heads": 4, "mamba_ngroups": 2, "mamba_d_state": 4, "mamba_d_conv": 3,
    "chunk_size": 4, "time_step_min": 0.1, "adapter_rank": 3,
}  # fmt: skip
FORGETFUL = ("bamba", "falcon_h1", "granitemoehybrid")
"""Types whose step sizes begin at more than 1, with which nothing would be left of a state after a few tokens."""
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
# Which types a test runs over. CONFIGS has every kind of block, of port, of position rule and of graph, so a test of how these are computed
# runs over it. OTHERS are types that use a graph of CONFIGS as it is, with attention or experts in code of their own. They run where that code
# could differ: the same bits as the stock model, one patch of every node against the reference, every edge, the logits, causality in
# float32, loading in half precision where they round in their own way (test_causality.py), and few random experiments. They do not run
# again in each dtype or for each option that a kind of block decides.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 32, "num_attention_heads": 2},
    "gpt_neox-sequential": {"intermediate_size": 32, "num_attention_heads": 2, "use_parallel_residual": False},
    "gpt2": {"n_head": 2},
    "gpt_neo": {"num_heads": 2, "window_size": 5},
    "bloom": {"n_head": 3, "hidden_size": 24},
    "llama": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
    "mistral": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 64},
    "qwen2": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen3": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
    "mixtral": {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4},
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
    "bamba": BAMBA | {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    "falcon_h1": FALCON_H1,
    "falcon_h1-normed": FALCON_H1 | {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
    "granitemoehybrid": GRANITE_HYBRID | {"num_local_experts": 0},
    "granitemoehybrid-moe": GRANITE_HYBRID | {"num_local_experts": 4, "position_embedding_type": "rope"},
    "nemotron_h": NEMOTRON_H,
    "zamba2": ZAMBA2 | {"num_key_value_heads": 2},
    "zamba2-adapted": ZAMBA2 | {"use_shared_attention_adapter": True, "use_mem_rope": True, "num_mem_blocks": 1},
    "rwkv": {"attention_hidden_size": 12, "intermediate_size": 32},
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
    "lfm2": {
        "intermediate_size": 32,
        "block_auto_adjust_ff_dim": False,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "full_attn_idxs": [1],
        "conv_L_cache": 4,
        "conv_bias": True,
    },
    "recurrent_gemma": {
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "lru_width": 24,
        "conv1d_width": 3,
        "attention_window_size": 64,
        "logits_soft_cap": 5.0,
        "block_types": ["recurrent", "attention"],
    },
    "qwen3_next": QWEN3_NEXT | {"num_experts": 0},
    "kimi_linear": KIMI_LINEAR,
    "rwkv7": RWKV7,
}
LLAMA: dict[str, Any] = {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS: dict[str, Any] = LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DEEPSEEK: dict[str, Any] = EXPERTS | {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
GRANITE = {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "logits_scaling": 2.0}
ROUTED: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT: dict[str, Any] = LLAMA | {
    "q_lora_rank": 6,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 5,
}
OTHERS: dict[str, dict[str, Any]] = {
    "apertus": LLAMA,
    "arcee": LLAMA,
    "aria_text": LLAMA | {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "biogpt": {"intermediate_size": 32, "num_attention_heads": 2, "scale_embedding": True},
    "codegen": {"n_head": 4, "rotary_dim": 2},
    "cohere": LLAMA | {"use_qk_norm": True, "logit_scale": 0.5},
    "cohere2": LLAMA | {"logit_scale": 0.5},
    "cohere2_moe": EXPERTS | {"num_shared_experts": 1, "first_k_dense_replace": 1},
    "cwm": LLAMA,
    "dots1": DEEPSEEK | {"head_dim": 4},
    "ernie4_5": LLAMA,
    "ernie4_5_moe": LLAMA | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
    "exaone_moe": DEEPSEEK | {"num_experts": 4, "head_dim": 4},
    "falcon": {"num_attention_heads": 4},
    "falcon-grouped": {"num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": True},
    "falcon-one_norm": {
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "new_decoder_architecture": True,
        "num_ln_in_parallel_attn": 1,
    },
    "falcon-sequential": {"num_attention_heads": 4, "multi_query": False, "parallel_attn": False, "bias": True},
    "gemma": LLAMA | {"head_dim": 4},
    "glm": LLAMA | {"head_dim": 4},
    "glm4_moe": DEEPSEEK | {"head_dim": 4, "use_qk_norm": True},
    "gpt_bigcode": {"n_head": 2},
    "gpt_neox_japanese": {"num_attention_heads": 2, "rotary_pct": 0.5},
    "gptj": {"n_head": 2, "rotary_dim": 4},
    "granite": LLAMA | GRANITE,
    "granitemoe": LLAMA | GRANITE | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "helium": LLAMA | {"head_dim": 4},
    "hunyuan_v1_dense": LLAMA | {"head_dim": 4},
    "hunyuan_v1_moe": EXPERTS | {"head_dim": 4, "moe_topk": 2},
    "hy_v3": EXPERTS | {"head_dim": 4, "num_shared_experts": 1},
    "hyperclovax": LLAMA | GRANITE | {"use_post_norm": False},
    "internlm3": LLAMA,
    "iquestcoder": LLAMA,
    "mellum": EXPERTS | {"head_dim": 4},
    "minimax_m2": EXPERTS | {"head_dim": 4, "num_local_experts": 4, "rotary_dim": 2},
    "ministral": LLAMA | {"head_dim": 4},
    "ministral3": LLAMA | {"head_dim": 4},
    "mpt": {"n_heads": 3, "hidden_size": 24, "max_seq_len": 32, "attn_config": {"clip_qkv": 1.5, "softmax_scale": 0.3}},
    "nemotron": LLAMA,
    "olmo": LLAMA,
    "olmoe": EXPERTS,
    "opt": {"num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 8},
    "persimmon": {"intermediate_size": 32, "num_attention_heads": 2},
    "phi": LLAMA | {"partial_rotary_factor": 0.5},
    "phi-qk_norm": LLAMA | {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "phi3": LLAMA,
    "phimoe": LLAMA | {"num_local_experts": 4},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS | {"head_dim": 4},
    "seed_oss": LLAMA | {"head_dim": 4},
    "smollm3": LLAMA,
    "solar_open": DEEPSEEK | {"head_dim": 4},
    "stablelm": LLAMA | {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "stablelm-parallel": LLAMA | {"use_parallel_residual": True},
    "starcoder2": LLAMA,
    "vaultgemma": LLAMA | {"head_dim": 4, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "xglm": {"attention_heads": 2, "ffn_dim": 32},
    "deepseek_v2": LATENT | ROUTED | {"first_k_dense_replace": 1, "num_key_value_heads": 4},
    "deepseek_v3": LATENT | ROUTED | {"first_k_dense_replace": 1, "num_key_value_heads": 4, "n_group": 2, "topk_group": 1},
    "flint": EXPERTS | {"head_dim": 4},
    "exaone4": LLAMA | {"head_dim": 4},
    "flex_olmo": EXPERTS,
    "gemma3_text": LLAMA | {"head_dim": 4, "query_pre_attn_scalar": 7, "final_logit_softcapping": 3.0},
    "glm4": LLAMA | {"head_dim": 4},
    "glm4_moe_lite": LATENT | ROUTED | {"num_key_value_heads": 4},
    "gpt_oss": LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 4},
    "granite_swa": LLAMA | {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3},
    "kolibri1": EXPERTS | {"head_dim": 4, "shared_expert_intermediate_size": 16},
    "mimo_v2_flash": LLAMA | ROUTED | {"head_dim": 4, "v_head_dim": 6, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "minicpm3": LATENT | {"scale_emb": 3, "dim_model_base": 4, "num_key_value_heads": 4},
    "olmo3": LLAMA,
    "lfm2_moe": EXPERTS | {"num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    "kimi_linear-moe": KIMI_LINEAR
    | {
        "mlp_layer_types": ["dense", "dense", "sparse"],
        "moe_intermediate_size": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "olmo_hybrid": LINEAR,
    "olmo_hybrid-rope": LINEAR
    | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "linear_allow_neg_eigval": False,
        "linear_num_key_heads": 4,
    },
    "qwen3_5_moe_text": QWEN3_NEXT
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 8},
    "qwen3_5_text": QWEN3_NEXT
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0], "partial_rotary_factor": 1.0}},
}
"""Types that use a graph of the above as it is (see the rule above ``CONFIGS``)."""


def config(kind: str, layers: int = 3, vocab: int = 61, **changes: Any) -> Any:
    from transformers import AutoConfig

    model_type = kind.split("-")[0]
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    if model_type == "gpt_neo":
        sizes["attention_types"] = [[["global"], 1], [["local"], layers - 1]]
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
        for name, parameter in model.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
            if "A_log" in name and hasattr(model.config, "linear_conv_kernel_dim"):  # random ones would forget at once
                parameter.sub_(parameter.max() + 1)
            if name.endswith("dt_bias") and kind.split("-")[0] in FORGETFUL:
                parameter.sub_(2)
    return model


def model(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """The same, loaded by circuitry."""
    import circuitry as ct

    return ct.load(stock(kind, layers, dtype, seed, **changes), dtype=dtype)
