"""Which objects ``load`` accepts as a model, and what to give instead of a wrapper around one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import ModelError
from ..native.own import OWN, causal_class
from ..store.wholeness import PLAIN
from .spread import check_fetched, is_spread

_PARALLEL = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
_WRAPPERS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda model: isinstance(model, type), "is a class; give a model made with it"),
    (
        lambda model: "OptimizedModule" in _classes(model),
        "is compiled by torch.compile; give the model it was made of: model._orig_mod",
    ),
    (lambda model: bool(_PARALLEL & _classes(model)), "wraps a model for training; give the model inside: model.module"),
    (
        lambda model: "PeftModel" in _classes(model) or hasattr(model, "merge_and_unload"),
        "wraps a model with adapters; merge them and give the result: model.merge_and_unload()",
    ),
    (lambda model: "Pipeline" in _classes(model), "is a pipeline; give its model, and its tokenizer as tokenizer=: pipe.model"),
    (
        lambda model: hasattr(model, "hf") and hasattr(model, "graph"),
        "is already loaded; use it as it is, or give ct.load the Hugging Face model: model.hf",
    ),
    (
        lambda model: isinstance(model, torch.nn.Module) and hasattr(model, "config"),
        "has a config but is not a transformers.PreTrainedModel, whose parts circuitry knows; give one that is",
    ),
)


def check_given(model: Any) -> None:
    """Refuse an object that is not a causal language model of transformers, or that circuitry cannot take apart as it is.

    Raises ModelError that says what to give instead.

    >>> check_given("gpt2")
    Traceback (most recent call last):
    circuitry.errors.ModelError: str is not a Hugging Face model; give a name, a folder, a GGUF file or such a model
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        name = model.__name__ if isinstance(model, type) else type(model).__name__
        other = "is not a Hugging Face model; give a name, a folder, a GGUF file or such a model"
        advice = next((advice for applies, advice in _WRAPPERS if applies(model)), other)
        raise ModelError(f"{name} {advice}")
    _check_head(model)
    _check_state(model)


def _classes(model: Any) -> set[str]:
    return {kind.__name__ for kind in type(model).__mro__}


def _check_head(hf: Any) -> None:
    """Refuse a model whose logits are not those of the next token."""
    name, config = type(hf).__name__, hf.config
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} has an encoder and a decoder; circuitry supports language models with a decoder only")
    right = causal_class(config)
    if config.model_type in OWN and not isinstance(hf, right):
        raise ModelError(
            f"{name} is not circuitry's {right.__name__}, whose parts it knows; give ct.load the author's checkpoint"
        )
    if right is not None and not isinstance(hf, right):
        raise ModelError(f"{name} does not predict the next token; give a {right.__name__} (AutoModelForCausalLM makes one)")
    if hf.get_output_embeddings() is None:
        raise ModelError(f"{name} does not predict the next token: it has no output embeddings; give a model that does")


def _check_state(hf: Any) -> None:
    name = type(hf).__name__
    modules = list(hf.modules())
    if any(hasattr(module, "base_layer") for module in modules):
        raise ModelError(f"{name} has adapters inside; merge them and give the result: peft's model.merge_and_unload()")
    if any("OptimizedModule" in _classes(module) or module._compiled_call_impl is not None for module in modules):
        raise ModelError(f"{name} is compiled; give one on which neither torch.compile nor model.compile() was called")
    devices = {str(parameter.device) for parameter in hf.parameters()}
    if is_spread(hf):
        check_fetched(hf)
    elif "meta" in devices:
        raise ModelError(f"{name} has weights without values (on the device 'meta'); load it without offloading")
    elif len(devices) > 1:
        raise ModelError(
            f"{name} is on several devices ({', '.join(sorted(devices))}), and nothing moves tensors between them; "
            "load it onto one device, or let accelerate.dispatch_model spread it"
        )
    if _is_quantised(hf):
        raise ModelError(
            f"{name} is quantised; load it without quantisation, or give model.dequantize() if its quantiser supports it"
        )


def _is_quantised(hf: Any) -> bool:
    """Whether the weights are stored in another form than plain numbers."""
    if any(value.dtype not in PLAIN for value in hf.parameters()):
        return True
    method = getattr(getattr(hf.config, "quantization_config", None), "quant_method", None)
    packed = any(value.dtype == torch.uint8 for value in hf.buffers())
    # transformers sets is_quantized for every model from GGUF, even if its weights are plain floats.
    return bool(getattr(hf, "is_quantized", False)) and (method != "gguf" or packed)
