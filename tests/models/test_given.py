"""Model objects that ``ct.load`` takes, and what it says of wrappers and other heads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import ModelError
from support import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch.compile's own


class PeftModelForCausalLM(torch.nn.Module):
    """As peft's: attributes of the model inside are those of the wrapper."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base_model, self.config = base, base.config

    def merge_and_unload(self) -> Any:
        return self.base_model


class LoraLinear(torch.nn.Module):
    """As peft's: it stands where the layer stood that it wraps."""

    def __init__(self, base_layer: Any) -> None:
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + x.sum()  # type: ignore[no-any-return]


class Own(torch.nn.Module):
    """Looks like a model of transformers and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="gpt2", vocab_size=3)


def llama(kind: str) -> Any:
    import transformers

    return getattr(transformers, kind)(tiny.config("llama", pad_token_id=0))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=2))


def adapted() -> Any:
    hf = llama("LlamaForCausalLM")
    hf.model.layers[0].self_attn.q_proj = LoraLinear(hf.model.layers[0].self_attn.q_proj)
    return hf


def compiled_in_place() -> Any:
    hf = llama("LlamaForCausalLM")
    hf.compile()
    return hf


def compiled_inside() -> Any:
    hf = llama("LlamaForCausalLM")
    hf.model.layers[1] = torch.compile(hf.model.layers[1])
    return hf


def on_meta() -> Any:
    with torch.device("meta"):
        return llama("LlamaForCausalLM")


def in_integers() -> Any:
    hf = llama("LlamaForCausalLM")
    layer = hf.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    return hf


def quantised() -> Any:
    hf = llama("LlamaForCausalLM")
    hf.is_quantized = True
    return hf


GIVEN: dict[str, tuple[Callable[[], Any], str]] = {
    "a class": (lambda: type(llama("LlamaModel")), "LlamaModel is a class; give a model made with it"),
    "compiled": (lambda: torch.compile(llama("LlamaForCausalLM")), "OptimizedModule is compiled by torch.compile; give the model it was made of: model._orig_mod"),
    "compiled in place": (compiled_in_place, "LlamaForCausalLM is compiled; give one on which neither torch.compile nor model.compile() was called"),
    "a part compiled": (compiled_inside, "LlamaForCausalLM is compiled; give one on which neither torch.compile nor model.compile() was called"),
    "parallel": (lambda: torch.nn.DataParallel(llama("LlamaForCausalLM")), "DataParallel wraps a model for training; give the model inside: model.module"),
    "adapters": (lambda: PeftModelForCausalLM(llama("LlamaForCausalLM")), "PeftModelForCausalLM wraps a model with adapters; merge them and give the result: model.merge_and_unload()"),
    "adapters inside": (adapted, "LlamaForCausalLM has adapters inside; merge them and give the result: peft's model.merge_and_unload()"),
    "a loaded model": (lambda: ct.load(llama("LlamaForCausalLM")), "Model is already loaded; use it as it is, or give ct.load the Hugging Face model: model.hf"),
    "one's own": (Own, "Own has a config but is not a transformers.PreTrainedModel, whose parts circuitry knows; give one that is"),
    "no head": (lambda: llama("LlamaModel"), "LlamaModel does not predict the next token; give a LlamaForCausalLM (AutoModelForCausalLM makes one)"),
    "a classifier": (lambda: llama("LlamaForSequenceClassification"), "LlamaForSequenceClassification does not predict the next token; give a LlamaForCausalLM (*"),
    "another head": (lambda: llama("LlamaForQuestionAnswering"), "LlamaForQuestionAnswering does not predict the next token; give a LlamaForCausalLM (*"),
    "encoder and decoder": (t5, "T5ForConditionalGeneration has an encoder and a decoder; circuitry supports language models with a decoder only"),
    "without values": (on_meta, "LlamaForCausalLM has weights without values (on the device 'meta'); load it without offloading"),
    "in integers": (in_integers, "LlamaForCausalLM is quantised; load it without quantisation, or give model.dequantize() if its quantiser supports it"),
    "quantised": (quantised, "LlamaForCausalLM is quantised; load it without quantisation, or give model.dequantize() if its quantiser supports it"),
    "weights alone": (lambda: llama("LlamaForCausalLM").state_dict(), "OrderedDict is not a Hugging Face model; give a name, a folder, a GGUF file or such a model"),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_no_language_model_says_what_to_give(name: str) -> None:
    make, text = GIVEN[name]
    what = make()
    with pytest.raises(ModelError) as found:
        ct.load(what)
    start, star, _ = text.partition("*")
    assert str(found.value).startswith(start) if star else str(found.value) == text
    assert "\n" not in str(found.value)


def test_what_is_said_works() -> None:
    wanted = ct.load(hf := llama("LlamaForCausalLM")).fingerprint
    compiled: Any = torch.compile(hf)
    for given in (compiled._orig_mod, torch.nn.DataParallel(hf).module, PeftModelForCausalLM(hf).merge_and_unload()):
        assert ct.load(given).fingerprint == wanted


def test_a_class_of_ones_own_over_a_model_is_taken() -> None:
    from transformers import LlamaForCausalLM

    class Mine(LlamaForCausalLM):  # type: ignore[misc]
        pass

    assert ct.load(Mine(tiny.config("llama"))).graph.name == "llama"
