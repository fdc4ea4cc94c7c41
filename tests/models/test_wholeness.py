"""Every weight of a file is used and every weight of a model comes from its file, or the load is refused by name: folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import circuitry as ct
from circuitry import ModelError
from support import tiny
from support.checkpoints import logits
from support.refusals import matches

pytestmark = pytest.mark.usefixtures("offline")

Weights = dict[str, Tensor]
Change = Callable[[Weights], Any]
Q = "model.layers.0.self_attn.q_proj.weight"


def folder(kind: str, path: Path, change: Change = lambda _: None, config: dict[str, Any] | None = None, **sizes: Any) -> Path:
    """A tiny model in a Hugging Face folder, its weights and its config changed afterwards."""
    tiny.stock(kind, dtype=torch.float32, **sizes).save_pretrained(path)
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")
    known = json.loads((path / "config.json").read_text()) | (config or {})
    (path / "config.json").write_text(json.dumps({key: value for key, value in known.items() if value is not None}))
    return path


def add(**weights: Tensor) -> Change:
    return lambda there: there.update({name.replace("__", "."): value for name, value in weights.items()})


def put(name: str, value: Tensor) -> Change:
    return lambda there: there.update({name: value})


def quantised(there: Weights) -> None:
    there[Q] = there[Q].to(torch.float8_e4m3fn)
    there[f"{Q}_scale_inv"] = torch.ones(1, 1)


def another_head(there: Weights) -> None:
    there["lm_head.weight"] = there["transformer.wte.weight"] * 2


def no_expert(there: Weights) -> None:
    """Expert 2 of the second layer of a Mixtral is called 4."""
    for name in [name for name in there if ".layers.1." in name and ".experts.2." in name]:
        there[name.replace("experts.2", "experts.4")] = there.pop(name)


LEFT: dict[str, tuple[str, Change, dict[str, Any], str]] = {
    "biases": (
        "llama",
        add(model__layers__1__self_attn__q_proj__bias=torch.ones(16)),
        {},
        "IT has 1 weight that a llama of its sizes does not have: model.layers.1.self_attn.q_proj.bias; the config may *",
    ),
    "all biases": (
        "llama-biased",
        lambda _: None,
        {"attention_bias": False},
        "IT has 12 weights that a llama of its sizes does not have, such as model.layers.0.self_attn.k_proj.bias; *",
    ),
    "fewer layers": (
        "llama",
        lambda _: None,
        {"num_hidden_layers": 2},
        "IT has 9 weights that a llama of its sizes does not have, such as model.layers.2.*; the config may name fewer layers *",
    ),
    "fewer layers whose biases transformers overlooks": (
        "gpt2",
        lambda there: [there.pop(name) for name in list(there) if ".h.2." in name and "c_attn.bias" not in name],
        {"n_layer": 2},
        "IT has 1 weight that a gpt2 of its sizes does not have: transformer.h.2.attn.c_attn.bias; *",
    ),
    "reward model": (
        "llama",
        put("score.weight", torch.ones(1, 16)),
        {},
        "IT has 1 weight that a llama of its sizes does not have: score.weight; this is the head of a reward model *",
    ),
    "value head": ("llama", put("v_head.summary.weight", torch.ones(1, 16)), {}, "*: v_head.summary.weight; this is the head of *"),
    "further tokens": ("llama", put("mtp.fc.weight", torch.ones(1, 16)), {}, "*: mtp.fc.weight; this predicts further tokens*"),
    "adapter inside": ("llama", put(Q.replace("weight", "lora_A.weight"), torch.ones(2, 16)), {}, "*; this is part of an adapter*"),
    "head's bias": ("llama", put("lm_head.bias", torch.ones(61)), {}, "*does not have: lm_head.bias"),
    "cross-attention's": ("gpt2", put("transformer.h.0.crossattention.bias", torch.ones(3)), {}, "*: transformer.h.0.crossattention.bias*"),
    "float8": ("llama", quantised, {}, f"IT stores 1 weight as float8_e4m3fn: {Q}; it is quantised, and circuitry reads float64, *"),
    "int8": ("llama", put(Q, torch.ones(16, 16, dtype=torch.int8)), {}, f"IT stores 1 weight as int8: {Q}; it is quantised*"),
    "scale alone": ("llama", put(f"{Q}_scale", torch.ones(1)), {}, f"*: {Q}_scale; this belongs to quantised weights*"),
    "another head": ("gpt2", another_head, {}, "config.json of IT says that lm_head.weight is transformer.wte.weight (tie_word_embeddings), but the file has another *"),
    "twice": ("gpt2", put("wte.weight", torch.ones(61, 16)), {}, "IT has 1 weight that a gpt2 of its sizes does not have: wte.weight"),
    "mask that is none": ("gpt2", put("transformer.h.0.attn.bias", torch.ones(1, 1, 8, 8)), {}, "*does not have: transformer.h.0.attn.bias*"),
    "other frequencies": ("llama", put("model.layers.0.self_attn.rotary_emb.inv_freq", torch.tensor([1.0, 0.02])), {}, "*rotary_emb.inv_freq*"),
    "lacking": ("llama", lambda w: w.pop(Q), {}, f"IT lacks 1 weight of a llama of its sizes: {Q}; it is incomplete, or not a causal *"),
    "lacking an expert": ("mixtral", lambda w: w.pop("model.layers.1.block_sparse_moe.experts.3.w2.weight"), {}, "*in other shapes: model.layers.1.mlp.experts.down_proj: expected (4, 16, 32), got (3, 16, 32)"),
    "expert by another number": ("mixtral", no_expert, {}, "IT has expert 4 of model.layers.1.block_sparse_moe.experts, but no expert 2"),
    "sizes that make no model": ("llama", lambda _: None, {"num_attention_heads": 3}, "IT holds no model that transformers knows: *The hidden size (16) is not a multiple of the number of attention heads (3)*"),
}  # fmt: skip


@pytest.mark.parametrize("how", ("load", "convert"))
@pytest.mark.parametrize("name", LEFT)
def test_a_folder_whose_weights_are_not_the_models_is_refused(name: str, how: str, tmp_path: Path) -> None:
    kind, change, config, text = LEFT[name]
    made = folder(kind.split("-")[0], tmp_path / "it", change, config, **({"attention_bias": True} if "-" in kind else {}))
    if how == "convert":
        torch.save(load_file(made / "model.safetensors"), made / "pytorch_model.bin")
        (made / "model.safetensors").unlink()
    with pytest.raises(ModelError) as found:
        ct.load(made) if how == "load" else ct.convert(made, tmp_path / "new")
    matches(str(found.value), text.replace("IT", str(made)))
    assert not (tmp_path / "new").exists()


def old(there: Weights) -> None:
    """As checkpoints of some years ago have it: masks and frequencies beside the weights."""
    if "transformer.wte.weight" in there:
        for name in list(there):
            there[name.removeprefix("transformer.")] = there.pop(name)
        for l in range(3):
            there[f"h.{l}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
            there[f"h.{l}.attn.masked_bias"] = torch.tensor(-1e4)
        there["lm_head.weight"] = there["wte.weight"].clone()
    else:
        for l in range(3):
            at = f"gpt_neox.layers.{l}.attention"
            there[f"{at}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
            there[f"{at}.masked_bias"] = torch.tensor(-1e9)
            there[f"{at}.rotary_emb.inv_freq"] = torch.tensor([1.0]).half()


@pytest.mark.parametrize("how", ("load", "convert"))
@pytest.mark.parametrize("kind", ("gpt2", "gpt_neox"))
def test_what_a_model_computes_may_be_in_its_file(kind: str, how: str, tmp_path: Path) -> None:
    made = folder(kind, tmp_path / "it", old)
    if how == "convert":
        torch.save(load_file(made / "model.safetensors"), made / "pytorch_model.bin")
        (made / "model.safetensors").unlink()
        made = ct.convert(made, tmp_path / "new").folder
    wanted = logits(tiny.model(kind, dtype=torch.float32).hf)
    assert torch.equal(logits(ct.load(made).hf), wanted)


def test_frequencies_are_compared_with_the_config(tmp_path: Path) -> None:
    """In the dtype they are stored in: bfloat16 keeps two or three digits of them."""
    size: dict[str, Any] = {"head_dim": 32, "rope_theta": 500000.0}
    stored = (1.0 / 500000.0 ** (torch.arange(0, 32, 2) / 32)).bfloat16()
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    ct.load(folder("llama", tmp_path / "right", put(name, stored), **size))
    with pytest.raises(ModelError, match=r"1 weight .*rotary_emb.inv_freq"):
        ct.load(folder("llama", tmp_path / "wrong", put(name, stored), **size | {"rope_theta": 10000.0}))


# --- several files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    tiny.stock("llama", dtype=torch.float32).save_pretrained(tmp_path / "it", max_shard_size="15KB")
    assert len(list((tmp_path / "it").glob("model-*-of-*.safetensors"))) == 3
    return tmp_path / "it"


def shard(where: Path, number: int) -> Path:
    return where / f"model-{number:05}-of-00003.safetensors"


def gone(where: Path) -> None:
    shard(where, 2).unlink()


def truncated(where: Path) -> None:
    shard(where, 2).write_bytes(shard(where, 2).read_bytes()[:-400])


def no_index(where: Path) -> None:
    (where / "model.safetensors.index.json").unlink()


def broken_index(where: Path) -> None:
    (where / "model.safetensors.index.json").write_text("[]")


def not_in_index(where: Path) -> None:
    index = json.loads((where / "model.safetensors.index.json").read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if "-00002-" not in file}
    (where / "model.safetensors.index.json").write_text(json.dumps(index))


def promised(where: Path) -> None:
    index = json.loads((where / "model.safetensors.index.json").read_text())
    index["weight_map"]["more"] = shard(where, 1).name
    (where / "model.safetensors.index.json").write_text(json.dumps(index))


def in_two(where: Path) -> None:
    save_file(load_file(shard(where, 2)) | dict([next(iter(load_file(shard(where, 1)).items()))]), shard(where, 2))


def single_too(where: Path) -> None:
    save_file({"x": torch.ones(1)}, where / "model.safetensors")


def single_and_parts(where: Path) -> None:
    single_too(where)
    no_index(where)


def named_elsewhere(where: Path) -> None:
    known = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps(known | {"transformers_weights": "other.safetensors"}))


SHARDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "gone": (gone, "model.safetensors.index.json of IT names model-00002-of-00003.safetensors, which is missing"),
    "truncated": (truncated, "the weights in IT/model-00002-of-00003.safetensors cannot be read: *"),
    "no index": (no_index, "no safetensors weights for 'IT': model-00001-of-00003.safetensors, *cannot be read without model.safetensors.index.json, *"),
    "broken index": (broken_index, "model.safetensors.index.json of IT cannot be read: it has no weight_map (*)"),
    "not in index": (not_in_index, "IT holds model-00002-of-00003.safetensors, not named by model.safetensors.index.json; remove *"),
    "promised": (promised, "model.safetensors.index.json of IT names more, which model-00001-of-00003.safetensors does not hold"),
    "in two": (in_two, "IT has * in two files, one of them model-00002-of-00003.safetensors; remove *"),
    "a single file too": (single_too, "IT has model.safetensors and model.safetensors.index.json, which names other files; remove *"),
    "weights by another name": (named_elsewhere, "config.json of IT says that its weights are in other.safetensors; circuitry reads *"),
    "a single file and parts": (single_and_parts, "IT holds model-00001-of-00003.safetensors, beside model.safetensors; remove *"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARDS)
def test_parts_that_do_not_make_a_whole_are_refused(name: str, sharded: Path) -> None:
    change, text = SHARDS[name]
    change(sharded)
    with pytest.raises(ModelError) as found:
        ct.load(sharded)
    matches(str(found.value), text.replace("IT", str(sharded)))


def test_all_parts_make_a_whole(sharded: Path) -> None:
    assert torch.equal(logits(ct.load(sharded).hf), logits(tiny.model("llama", dtype=torch.float32).hf))


# --- quantised folders, adapters -------------------------------------------------------------------------------------------

METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4}, "gptq"),
    "awq": ({"quant_method": "awq", "bits": 4}, "awq"),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    "compressed-tensors": ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4"),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8"}, "modelopt"),
    "not known": ({"bits": 3}, "unknown method"),
}
HOW = {
    "bitsandbytes": "AutoModelForCausalLM.from_pretrained('IT').dequantize().save_pretrained('NEW_FOLDER')",
    "compressed-tensors": "AutoModelForCausalLM.from_pretrained('IT', quantization_config=CompressedTensorsConfig(dequantize=True)).save_*",
    "fp8": "AutoModelForCausalLM.from_pretrained('IT', quantization_config=FineGrainedFP8Config(dequantize=True)).save_*",
}


@pytest.mark.parametrize("key", ("quantization_config", "compression_config", "quantization"))
@pytest.mark.parametrize("name", METHODS)
def test_a_quantised_folder_says_what_to_do(name: str, key: str, tmp_path: Path) -> None:
    settings, method = METHODS[name]
    made = folder("llama", tmp_path / "it", config={key: settings})
    with pytest.raises(ModelError) as found:
        ct.load(made)
    text = f"IT is quantised ({method}), and circuitry needs the weights as numbers: load the checkpoint that was quantised*"
    matches(str(found.value), (text + HOW.get(name, "")).replace("IT", str(made)))


def test_what_is_said_of_float8_works(tmp_path: Path) -> None:
    """The line in the message, on a folder with float8 weights and the scale of each block of them."""
    from transformers import AutoModelForCausalLM, FineGrainedFP8Config

    scale = 0.5

    def float8(there: Weights) -> None:
        for name in [name for name in there if name.endswith("_proj.weight")]:
            there[name] = (there[name] / scale).to(torch.float8_e4m3fn)
            there[f"{name}_scale_inv"] = torch.full((1, 1), scale)

    made = folder(
        "llama", tmp_path / "it", float8, {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    )
    with pytest.raises(ModelError, match=r"FineGrainedFP8Config\(dequantize=True\)"):
        ct.load(made)
    hf = AutoModelForCausalLM.from_pretrained(made, quantization_config=FineGrainedFP8Config(dequantize=True))
    hf.save_pretrained(tmp_path / "new")
    stored = load_file(made / "model.safetensors")[Q].float() * scale
    assert torch.equal(ct.load(tmp_path / "new").hf.get_parameter(Q), stored)


@pytest.mark.parametrize("beside", (True, False))
def test_an_adapter_is_merged_first(beside: bool, tmp_path: Path) -> None:
    made = folder("llama", tmp_path / "it")
    (made / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA"}))
    (made / "adapter_model.safetensors").write_bytes(b"never read")
    if not beside:
        (made / "config.json").unlink()
        (made / "model.safetensors").unlink()
    said = (
        f"{made} holds an adapter (adapter_config.json), which changes the weights of its base, some/base; merge the two once: "
        f"peft.AutoPeftModelForCausalLM.from_pretrained('{made}').merge_and_unload().save_pretrained('NEW_FOLDER')"
    )
    for read in (ct.load, lambda what: ct.convert(what, tmp_path / "new")):
        with pytest.raises(ModelError) as found:
            read(made)
        assert str(found.value) == said
