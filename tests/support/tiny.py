"""Tiny random-weight models of every supported type; all parameters perturbed, so that biases and norms matter."""

from __future__ import annotations

from typing import Any

import torch

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
    "bamba": BAMBA | {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    "falcon_h1": FALCON_H1,
    "falcon_h1-normed": FALCON_H1 | {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
    "granitemoehybrid": GRANITE_HYBRID | {"num_local_experts": 0},
    "granitemoehybrid-moe": GRANITE_HYBRID | {"num_local_experts": 4, "position_embedding_type": "rope"},
    "nemotron_h": NEMOTRON_H,
    "zamba2": ZAMBA2 | {"num_key_value_heads": 2},
    "zamba2-adapted": ZAMBA2 | {"use_shared_attention_adapter": True, "use_mem_rope": True, "num_mem_blocks": 1},
    "rwkv": {"attention_hidden_size": 12, "intermediate_size": 32},
}
LLAMA: dict[str, Any] = {"intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS: dict[str, Any] = LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
OTHERS: dict[str, dict[str, Any]] = {
    "arcee": LLAMA,
    "cwm": LLAMA,
    "ernie4_5": LLAMA,
    "gemma": LLAMA | {"head_dim": 4},
    "glm": LLAMA | {"head_dim": 4},
    "gpt_bigcode": {"n_head": 2},
    "granite": LLAMA
    | {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "logits_scaling": 2.0},
    "helium": LLAMA | {"head_dim": 4},
    "hunyuan_v1_dense": LLAMA | {"head_dim": 4},
    "internlm3": LLAMA,
    "ministral": LLAMA | {"head_dim": 4},
    "mixtral": LLAMA | {"num_local_experts": 4},
    "nemotron": LLAMA,
    "olmo": LLAMA,
    "olmoe": EXPERTS,
    "phi3": LLAMA,
    "phimoe": LLAMA | {"num_local_experts": 4},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS | {"head_dim": 4},
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
    return AutoConfig.for_model(model_type, **{**sizes, **(CONFIGS | OTHERS)[kind], **changes})


def stock(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """A stock Hugging Face model, in eval mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind, layers, **changes)).eval().to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
            if name.endswith("dt_bias") and kind.split("-")[0] in FORGETFUL:
                parameter.sub_(2)
    return model


def model(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """The same, loaded by circuitry."""
    import circuitry as ct

    return ct.load(stock(kind, layers, dtype, seed, **changes), dtype=dtype)
