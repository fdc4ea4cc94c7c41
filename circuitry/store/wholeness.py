"""Whether a model has all the weights of its file and no others, including those that transformers ignores in silence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError

Weights = Mapping[str, Tensor]
PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _is_causal_mask(value: Tensor, _: Any) -> bool:
    size = value.shape[-1] if value.ndim else 0
    return value.numel() == size * size > 1 and torch.equal(value.reshape(size, size) != 0, torch.ones(size, size).tril() != 0)


def _is_minus_infinity(value: Tensor, _: Any) -> bool:
    return value.numel() == 1 and value.item() <= -1e4


def _counts_up(value: Tensor, _: Any) -> bool:
    return torch.equal(value.flatten().long(), torch.arange(value.numel()))


def _is_as_configured(value: Tensor, hf: Any) -> bool:
    """Whether stored rotary frequencies equal those of the config, up to the rounding of their dtype."""
    if not value.is_floating_point():
        return False
    eps = torch.finfo(value.dtype).eps
    configured = (buffer for key, buffer in hf.named_buffers() if key.endswith("inv_freq") and buffer.shape == value.shape)
    return any(torch.allclose(value.float(), buffer.float(), rtol=2 * eps, atol=eps * 1e-4) for buffer in configured)


_RECOMPUTED: tuple[tuple[str, Callable[[Tensor, Any], bool]], ...] = (
    (r"\.(attn|attention)\.bias$", _is_causal_mask),
    (r"\.(attn|attention)\.masked_bias$", _is_minus_infinity),
    (r"(^|\.)position_ids$", _counts_up),
    (r"\.rotary_emb\.inv_freq$", _is_as_configured),
)
"""Tensors that old checkpoints store although the model computes them: the causal mask, the number used in it for minus infinity,
the positions, the rotary frequencies. Each is ignored only if its values agree with the model's."""

_HINTS = (
    (
        r"(^|\.)(score|v_head|value_head|reward_head|classifier|classification_head|regression_head)\.",
        "this is the head of a reward model or a classifier, and circuitry loads language models",
    ),
    (r"lora_|\.base_layer\.|(^|\.)modules_to_save\.", "this is part of an adapter; merge it first with peft's merge_and_unload"),
    (
        r"(scale|scale_inv|scales|qweight|qzeros|g_idx|absmax|quant_map|SCB|weight_packed|weight_shape|zero_point)$|quant_state",
        "this belongs to quantised weights; load the checkpoint that was quantised, or a dequantised copy",
    ),
    (
        r"(^|\.)(mtp|nextn|eh_proj|shared_head)\.",
        "this predicts further tokens and does not belong to the model that was asked for",
    ),
    (
        r"rope_(freqs|factors)",
        "this rescales rotary frequencies, which transformers does not read from GGUF; load the same model from safetensors",
    ),
    (
        r"\.(layers|h|blocks)\.\d+\.",
        "the config may name fewer layers than the file has, or leave out parts of them, such as biases",
    ),
)


def check_stored(weights: Weights, name: str) -> None:
    """Refuse quantised weights (integers, float8), whose stored numbers are not the values, and files that lack an expert.

    Raises ModelError.

    >>> check_stored({"a.weight": torch.ones(2, dtype=torch.int8)}, "it")
    Traceback (most recent call last):
    circuitry.errors.ModelError: it stores 1 weight as int8: a.weight; it is quantised, and circuitry reads float64, float32, bfloat16 and float16: load the checkpoint that was quantised, or a dequantised copy
    """
    coded = [key for key, value in weights.items() if value.dtype not in PLAIN and not _may_be_recomputed(key)]
    if coded:
        dtype = str(weights[coded[0]].dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} stores {_named('{} as ' + dtype, coded)}; it is quantised, and circuitry reads float64, float32, bfloat16 "
            "and float16: load the checkpoint that was quantised, or a dequantised copy"
        )
    experts = defaultdict[str, set[int]](set)
    for key in weights:
        if match := re.match(r"(.*\.experts)\.(\d+)\.", key):
            experts[match[1]].add(int(match[2]))
    for layer, numbers in experts.items():
        # transformers would renumber the experts that remain, so a gap gives another model without an error.
        if lacking := set(range(max(numbers))) - numbers:
            raise ModelError(f"{name} has expert {max(numbers)} of {layer}, but no expert {min(lacking)}")


def check_loaded(hf: Any, report: Mapping[str, Any], weights: Weights, name: str) -> None:
    """Refuse a model with weights that are not from the file, and a file with weights that are not in the model.

    ``report`` is the loading report of transformers, with its names of weights; ``weights`` are those of the file, with the
    file's names. Raises ModelError with the first name of each kind.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> hf = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1))
    >>> nothing = {"unexpected_keys": set(), "mismatched_keys": set(), "missing_keys": set()}
    >>> check_loaded(hf, nothing, hf.state_dict(), "it")
    >>> check_loaded(hf, nothing, hf.state_dict() | {"h.1.attn.bias": torch.ones(4)}, "it")
    Traceback (most recent call last):
    circuitry.errors.ModelError: it has 1 weight that a gpt2 of its sizes does not have: h.1.attn.bias
    """
    kind = f"a {hf.config.model_type} of its sizes"
    if mismatched := sorted(report["mismatched_keys"]):
        shapes = [f"{key}: expected {tuple(wanted)}, got {tuple(given)}" for key, given, wanted in mismatched]
        raise ModelError(f"{name} has {_named(f'{{}} that {kind} has in other shapes', shapes)}")
    left = _left_over(hf, report["unexpected_keys"], weights)
    check_used(left, {*report["missing_keys"], *_made_up(hf, weights)}, kind, name)
    _check_tied(hf, name)


def check_used(left: Iterable[str], missing: Iterable[str], kind: str, name: str) -> None:
    """Refuse a file with weights that ``kind`` of model does not have, or without some that it has. Raises ModelError.

    >>> check_used([], ["head.weight"], "a gpt2", "it")
    Traceback (most recent call last):
    circuitry.errors.ModelError: it lacks 1 weight of a gpt2: head.weight; it is incomplete, or not a causal language model
    """
    if names := sorted(left):
        hint = next((f"; {hint}" for pattern, hint in _HINTS if re.search(pattern, names[0])), "")
        raise ModelError(f"{name} has {_named(f'{{}} that {kind} does not have', names)}{hint}")
    if names := sorted(missing):
        raise ModelError(f"{name} lacks {_named(f'{{}} of {kind}', names)}; it is incomplete, or not a causal language model")


def _named(text: str, keys: Sequence[str]) -> str:
    """``text`` with the number of weights, and the first of them."""
    if len(keys) == 1:
        return f"{text.format('1 weight')}: {keys[0]}"
    return f"{text.format(f'{len(keys)} weights')}, such as {keys[0]}"


def _may_be_recomputed(key: str) -> bool:
    return any(re.search(pattern, key) for pattern, _ in _RECOMPUTED)


def _left_over(hf: Any, unexpected: Iterable[str], weights: Weights) -> set[str]:
    """Weights of the file that the model did not take, except those it computes itself with the same values.

    transformers does not report names that match a pattern of the model's class, whatever they are.
    """
    loaded, prefix = set(hf.state_dict()), f"{hf.base_model_prefix}."
    ignored = [*(hf._keys_to_ignore_on_load_unexpected or ()), *(pattern for pattern, _ in _RECOMPUTED)]
    hidden = {
        key
        for key in weights
        if any(re.search(pattern, key) for pattern in ignored) and not {key, prefix + key, key.removeprefix(prefix)} & loaded
    }
    twice = {key for key in weights if prefix + key in weights}  # transformers takes only one of the two
    recomputed = {key for key in {*unexpected, *hidden} if key in weights and _is_recomputed(key, weights[key], hf)}
    return {*unexpected, *hidden, *twice} - recomputed


def _is_recomputed(key: str, value: Tensor, hf: Any) -> bool:
    return any(same(value, hf) for pattern, same in _RECOMPUTED if re.search(pattern, key))


def _made_up(hf: Any, weights: Weights) -> set[str]:
    """Missing weights that transformers does not report, since their names match a pattern of the model's class."""
    patterns, prefix = hf._keys_to_ignore_on_load_missing or (), f"{hf.base_model_prefix}."
    named = {key for key in hf.state_dict() if any(re.search(pattern, key) for pattern in patterns)}
    return {key for key in named if not {key, key.removeprefix(prefix)} & set(weights)} - set(_ties(hf))


def _ties(hf: Any) -> dict[str, str]:
    """Weights that the config ties to others: the tied weight, and the one it must equal."""
    ties: dict[str, str] = hf.get_expanded_tied_weights_keys(all_submodels=True)
    return ties


def _check_tied(hf: Any, name: str) -> None:
    """Refuse tied weights that differ in the file: transformers then keeps both, in silence."""
    for tied, source in _ties(hf).items():
        if hf.get_parameter(tied) is not hf.get_parameter(source):
            raise ModelError(
                f"config.json of {name} says that {tied} is {source} (tie_word_embeddings), but the file has another {tied}"
            )
