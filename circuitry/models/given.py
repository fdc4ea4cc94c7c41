"""Which objects ``load`` takes as a model, and what to give instead of a wrapper around one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import ModelError
from ..store.wholeness import PLAIN
from .spread import check_fetched, is_spread

_PARALLEL = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
_WRAPPERS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda what: isinstance(what, type), "is a class; give a model made with it"),
    (
        lambda what: "OptimizedModule" in _classes(what),
        "is compiled by torch.compile; give the model it was made of: model._orig_mod",
    ),
    (lambda what: bool(_PARALLEL & _classes(what)), "wraps a model for training; give the model inside: model.module"),
    (
        lambda what: "PeftModel" in _classes(what) or hasattr(what, "merge_and_unload"),
        "wraps a model with adapters; merge them and give the result: model.merge_and_unload()",
    ),
    (lambda what: "Pipeline" in _classes(what), "is a pipeline; give its model, and its tokenizer as tokenizer=: pipe.model"),
    (
        lambda what: hasattr(what, "hf") and hasattr(what, "graph"),
        "is loaded already; use it as it is, or give ct.load the Hugging Face model: model.hf",
    ),
    (
        lambda what: isinstance(what, torch.nn.Module) and hasattr(what, "config"),
        "has a config but is not a transformers.PreTrainedModel, whose parts circuitry knows; give one that is",
    ),
)


def check_given(what: Any) -> None:
    """Refuse an object that is not a causal language model of transformers, or that circuitry cannot take apart as it is.

    Raises ModelError that says what to give instead.

    >>> check_given("gpt2")
    Traceback (most recent call last):
    circuitry.errors.ModelError: str is not a Hugging Face model; give a name, a folder, a GGUF file or such a model
    """
    from transformers import PreTrainedModel

    if not isinstance(what, PreTrainedModel):
        advice = (advice for is_one, advice in _WRAPPERS if is_one(what))
        name = what.__name__ if isinstance(what, type) else type(what).__name__
        told = next(advice, "is not a Hugging Face model; give a name, a folder, a GGUF file or such a model")
        raise ModelError(f"{name} {told}")
    _check_head(what)
    _check_state(what)


def _classes(what: Any) -> set[str]:
    return {one.__name__ for one in type(what).__mro__}


def _check_head(hf: Any) -> None:
    """Refuse a model whose logits are not those of the next token."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    name, config = type(hf).__name__, hf.config
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} has an encoder and a decoder; circuitry supports language models with a decoder only")
    right = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if right is not None and not isinstance(hf, right):
        raise ModelError(f"{name} does not predict the next token; give a {right.__name__} (AutoModelForCausalLM makes one)")
    if hf.get_output_embeddings() is None:
        raise ModelError(f"{name} does not predict the next token: it has no output embeddings; give a model that does")


def _check_state(hf: Any) -> None:
    name = type(hf).__name__
    inside = list(hf.modules())
    if any(hasattr(module, "base_layer") for module in inside):
        raise ModelError(f"{name} has adapters inside; merge them and give the result: peft's model.merge_and_unload()")
    if any("OptimizedModule" in _classes(module) or module._compiled_call_impl is not None for module in inside):
        raise ModelError(f"{name} is compiled; give one on which neither torch.compile nor model.compile() was called")
    devices = {str(parameter.device) for parameter in hf.parameters()}
    if is_spread(hf):
        check_fetched(hf)
    elif "meta" in devices:
        raise ModelError(f"{name} has weights without values (on the device 'meta'); load it without offloading")
    elif len(devices) > 1:
        raise ModelError(
            f"{name} is on {', '.join(sorted(devices))}, and nothing moves tensors between them; load it onto one device, "
            "or let accelerate.dispatch_model spread it"
        )
    if _is_quantised(hf):
        raise ModelError(
            f"{name} is quantised; load it without quantisation, or give model.dequantize() if its quantiser supports it"
        )


def _is_quantised(hf: Any) -> bool:
    """Whether a weight is not simply its numbers. transformers says so of every model from GGUF, also of one in plain floats."""
    if any(value.dtype not in PLAIN for value in hf.parameters()):
        return True
    method = getattr(getattr(hf.config, "quantization_config", None), "quant_method", None)
    packed = any(value.dtype == torch.uint8 for value in hf.buffers())
    return bool(getattr(hf, "is_quantized", False)) and (method != "gguf" or packed)
