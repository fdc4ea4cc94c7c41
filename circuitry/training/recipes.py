"""The bundled models' configurations and curricula, as data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .tokenizer import VOCABULARY


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum. Induction never formed without a beginning of short rows and few words.

    ``length`` and ``words`` are the length and the number of distinct tokens of induction rows; ``tokens`` is the number of
    tokens a step, of which ``ioi`` and ``english`` are the shares of the other two kinds of data.
    """

    steps: int
    length: int
    words: int = VOCABULARY
    tokens: int = 4096
    periodic: bool = False
    ioi: float = 0.0
    english: float = 0.0


@dataclass(frozen=True)
class Curriculum:
    """How to build a model, its peak learning rate, and its curriculum."""

    build: Callable[[], Any]
    learning_rate: float
    stages: tuple[Stage, ...]


def _gpt_neox() -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 200.0, "partial_rotary_factor": 0.5},
        initializer_range=0.05,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    for layer in model.gpt_neox.layers:  # heads that start with different preferences find the circuits sooner
        torch.nn.init.normal_(layer.attention.query_key_value.bias, std=0.7)
    return _scale_embedding(model)


def _mamba() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        state_size=32,
        expand=2,
        time_step_rank=8,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return _scale_embedding(MambaForCausalLM(config))


def _mamba2() -> Any:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_heads=8,
        head_dim=32,
        n_groups=1,
        state_size=32,
        expand=2,
        chunk_size=32,  # suits our rows of 16 to 256 tokens; transformers' chunked scan is fast enough for training
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return _scale_embedding(Mamba2ForCausalLM(config))


def _rwkv() -> Any:
    from transformers import RwkvConfig, RwkvForCausalLM

    config = RwkvConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        attention_hidden_size=256,  # the state has one number for each channel, so more channels are more memory
        intermediate_size=256,
        context_length=512,
        rescale_every=0,  # otherwise stock RWKV divides weights in place whenever it changes from training to eval mode
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _scale_embedding(RwkvForCausalLM(config))


def _qwen3_next() -> Any:
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    heads = 4
    config = Qwen3NextConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 4,
        linear_num_key_heads=heads,
        linear_num_value_heads=heads,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        intermediate_size=128,
        num_experts=0,
        num_experts_per_tok=0,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.088,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Qwen3NextForCausalLM(config)
    for layer in model.model.layers:  # stock states forget all within two tokens at first: these keep as Mamba-2's do
        step = torch.empty(heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        torch.nn.init.uniform_(layer.linear_attn.conv1d.weight, -0.5, 0.5)
        with torch.no_grad():
            layer.linear_attn.dt_bias.copy_(step.expm1().log())
            layer.linear_attn.A_log.uniform_(1, 16).log_()
    return _scale_embedding(model)


def _scale_embedding(model: Any) -> Any:
    """Initialise tied embeddings: at width 128 they train best with about this spread."""
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.088)
    return model


SELECTIVE = (
    Stage(400, 16, words=32, tokens=1024, periodic=True),
    Stage(400, 16, words=32, tokens=1024),
    Stage(300, 32, words=64, tokens=2048),
    Stage(300, 32, words=256, tokens=2048),
    Stage(500, 32),
    Stage(1000, 64, ioi=0.25, english=0.1),
    Stage(1200, 128, ioi=0.15, english=0.25),
    Stage(300, 256, ioi=0.2, english=0.25),
    Stage(1200, 128, ioi=0.35, english=0.2),
)
"""The curriculum of both Mambas."""
DELTA = (
    Stage(300, 16, words=32, tokens=1024, periodic=True),
    Stage(300, 16, words=32, tokens=1024),
    Stage(200, 32, words=64, tokens=1024),
    Stage(200, 32, words=256, tokens=1024),
    Stage(300, 32, tokens=2048),
    Stage(400, 64, tokens=2048, ioi=0.25, english=0.1),
    Stage(600, 128, tokens=2048, ioi=0.2, english=0.25),
    Stage(200, 256, tokens=2048, ioi=0.2, english=0.25),
    Stage(600, 128, tokens=2048, ioi=0.35, english=0.2),
)
"""The curriculum of the gated delta rule, which needs fewer steps and smaller ones than the Mambas."""

RECIPES = {
    "gpt_neox": Curriculum(
        _gpt_neox,
        3e-3,
        (
            Stage(300, 16, words=64, tokens=1024, periodic=True, ioi=0.5),
            Stage(200, 32, words=64, tokens=2048, ioi=0.5),
            Stage(200, 32, words=256, tokens=2048, ioi=0.5),
            Stage(400, 32, ioi=0.33),
            Stage(400, 64, ioi=0.25, english=0.25),
            Stage(800, 128, ioi=0.2, english=0.3),
            Stage(800, 256, ioi=0.2, english=0.3),
            Stage(2900, 128, ioi=0.5, english=0.2),
        ),
    ),
    "mamba": Curriculum(_mamba, 4e-3, SELECTIVE),
    "mamba2": Curriculum(_mamba2, 4e-3, SELECTIVE),
    "qwen3_next": Curriculum(_qwen3_next, 4e-3, DELTA),
    "rwkv": Curriculum(
        _rwkv,
        3e-3,
        (
            Stage(800, 16, words=32, tokens=1024, periodic=True),
            Stage(1200, 16, words=32, tokens=1024),
            Stage(800, 32, words=64, tokens=2048),
            Stage(800, 32, words=256, tokens=2048),
            Stage(800, 32),
            Stage(1000, 64, ioi=0.25, english=0.1),
            Stage(1200, 128, ioi=0.25, english=0.25),
            Stage(1200, 128, ioi=0.35, english=0.2),
        ),
    ),
}
