"""Tiny random-weight models of every supported type; all parameters perturbed, so that biases and norms matter."""

from __future__ import annotations

from typing import Any

import torch

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
}


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
    return AutoConfig.for_model(model_type, **sizes, **{**CONFIGS[kind], **changes})


def stock(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """A stock Hugging Face model, in eval mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind, layers, **changes)).eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def model(kind: str, layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """The same, loaded by circuitry."""
    import circuitry as ct

    return ct.load(stock(kind, layers, dtype, seed, **changes), dtype=dtype)
