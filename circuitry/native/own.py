"""Types of model that circuitry has and transformers does not. They are not registered with transformers: only circuitry finds them."""

from __future__ import annotations

from typing import Any

OWN = ("rwkv7",)
"""Their ``model_type``."""


def config_class(model_type: str | None) -> Any:
    """The class of configs of a ``model_type``, which has a method ``from_pretrained``.

    >>> config_class("rwkv7").__name__, config_class("gpt2").__name__
    ('Rwkv7Config', 'AutoConfig')
    """
    from transformers import AutoConfig

    if model_type not in OWN:
        return AutoConfig
    from .rwkv7_model import Rwkv7Config

    return Rwkv7Config


def causal_class(config: Any) -> Any:
    """The class of causal language models with this config; None if there is none.

    >>> from transformers import GPT2Config
    >>> causal_class(GPT2Config()).__name__, causal_class(config_class("rwkv7")()).__name__
    ('GPT2LMHeadModel', 'Rwkv7ForCausalLM')
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if config.model_type not in OWN:
        return MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    from .rwkv7_model import Rwkv7ForCausalLM

    return Rwkv7ForCausalLM
