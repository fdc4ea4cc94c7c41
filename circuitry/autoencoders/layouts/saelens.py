"""Files of SAELens 6, and those of older versions, whose settings have other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..sae import SAE, SAEConfig
from .settings import Settings, chosen

FILE = "a SAELens file"
KINDS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu"}
"""Our kinds by SAELens's architectures."""
TRANSCODERS = {"transcoder": "relu", "jumprelu_transcoder": "jumprelu", "topk_transcoder": "topk"}
"""The same of transcoders. SAELens has no topk_transcoder."""

# Which activations, on which text: the caller gives both.
_ORIGIN = """model_name model_class_name hook_name hook_point hook_layer hook_point_layer hook_head_index hook_point_head_index
hook_name_out hook_layer_out hook_head_index_out
hook_eval hook_point_eval neuronpedia_id dataset_path dataset_trust_remote_code is_dataset_tokenized streaming tokenizer_name
prepend_bos context_size seqpos_slice exclude_special_tokens disable_concat_sequences"""
# Which version wrote the file, in which dtype and on which device: we compute in float32, on the model's device.
_WRITTEN = "dtype device sae_lens_version sae_lens_training_version"
# How the SAE was trained. None of it is used when a trained SAE encodes or decodes.
_TRAINING = """expansion_factor decoder_init_norm decoder_heuristic_init decoder_heuristic_init_norm decoder_orthogonal_init
init_encoder_as_decoder_transpose b_dec_init_method normalize_sae_decoder noise_scale from_pretrained_path resume seed
l1_coefficient l1_warm_up_steps lp_norm l0_coefficient l0_warm_up_steps mse_loss_normalization use_ghost_grads
scale_sparsity_penalty_by_decoder_norm pre_act_loss_coefficient aux_loss_coefficient use_sparse_activations jumprelu_init_threshold
jumprelu_bandwidth jumprelu_sparsity_loss_mode jumprelu_tanh_scale finetuning_tokens finetuning_method
lr lr_end lr_scheduler_name lr_warm_up_steps lr_decay_steps n_restart_cycles adam_beta1 adam_beta2 training_tokens
total_training_tokens train_batch_size train_batch_size_tokens store_batch_size store_batch_size_prompts n_batches_in_buffer
tokens_per_buffer use_cached_activations cached_activations_path act_store_device dead_feature_window dead_feature_threshold
dead_feature_estimation_method feature_sampling_window feature_sampling_method feature_reinit_scale resample_batches autocast
autocast_lm compile_llm compile_sae llm_compilation_mode sae_compilation_mode eval_batch_size_prompts n_eval_batches n_eval_seqs
eval_every_n_wandb_logs log_to_wandb log_activations_store_to_wandb log_optimizer_state_to_wandb wandb_project wandb_id wandb_entity
wandb_log_frequency run_name checkpoint_path n_checkpoints save_final_checkpoint verbose logger"""


def read(given: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    """An SAE from the settings of ``cfg.json`` and the tensors of ``sae_weights.safetensors``.

    b_dec is subtracted first unless the file says otherwise, as SAELens does.
    """
    settings = Settings(FILE, given)
    metadata = given.get("metadata") or {}
    _model_as_it_is(settings.inside("metadata"))
    _model_as_it_is(settings)
    _input_as_it_is(settings, str(given.get("hook_name", given.get("hook_point", ""))), old="sae_lens_version" not in metadata)
    target_width = _target_width(settings, given)
    kind, k = _activation(settings)
    width, features = settings.whole("d_in"), settings.whole("d_sae")
    if target_width is None:
        centred = settings.flag("apply_b_dec_to_input", True)
    else:
        centred = False
        settings.only("apply_b_dec_to_input", False, why="b_dec of a transcoder belongs to the node that it predicts")
    ranked = settings.flag("rescale_acts_by_decoder_norm", False) if kind == "topk" else False
    settings.only("rescale_acts_by_decoder_norm", False, why="its effect is known for topk only")
    for names in (_ORIGIN, _WRITTEN, _TRAINING):
        settings.harmless(names)
    settings.done()
    provenance = metadata.get("circuitry") or {"from": "SAELens", **(metadata or given)}
    wanted = ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if kind == "jumprelu" else [])]
    tensors = chosen(FILE, _without_ones(weights), {name: name for name in wanted})
    # Only our own files name nodes of a graph.
    target = metadata.get("hook_name_out") if metadata.get("circuitry") and target_width is not None else None
    sae = SAE.of(SAEConfig(width, features, kind, k, centred, provenance, target, target_width), tensors)
    return sae.unit() if ranked else sae


def architecture(config: SAEConfig) -> str:
    """SAELens's name of what an SAE or transcoder computes."""
    names = TRANSCODERS if config.transcodes else KINDS
    return next(name for name, kind in names.items() if kind == config.kind)


def _target_width(settings: Settings, given: Mapping[str, Any]) -> int | None:
    """The width of what a transcoder predicts; None of an SAE, whose d_out would be unknown."""
    if not isinstance(name := given.get("architecture"), str) or name.lower() not in TRANSCODERS:
        return None
    if "d_out" not in given:
        raise settings.refuse("architecture", name, "it has no d_out, the width of what it predicts")
    return int(settings.whole("d_out"))


def _activation(settings: Settings) -> tuple[str, int | None]:
    """Kind and k. In older files topk is an activation function of the standard architecture."""
    kinds = {**KINDS, **TRANSCODERS}
    kind = kinds[settings.word("architecture", list(kinds), "standard")]
    for name in ("activation_fn", "activation_fn_str"):
        function = settings.word(name, ["relu", "topk"] if kind != "jumprelu" else ["relu"], "topk" if kind == "topk" else "relu")
        kind = "topk" if function == "topk" else kind
    options = settings.inside("activation_fn_kwargs")
    if kind != "topk":
        options.done()
        settings.only("k", None, why=f"the activation function is {kind}")
        return kind, None
    k, nested = settings.whole("k", None), options.whole("k", None)
    options.done()
    if k is None and nested is None:
        settings.take("k")  # raises, since there is none
    if None not in (k, nested) and k != nested:
        raise settings.refuse("k", k, f"activation_fn_kwargs say {nested}")
    return kind, k or nested


def _input_as_it_is(settings: Settings, hook: str, old: bool) -> None:
    """Refuse files whose input is changed before the encoder, or whose output is changed after the decoder."""
    scheme = settings.take("normalize_activations", "none")
    if scheme in ("expected_average_only_in", True):
        raise settings.refuse(
            "normalize_activations", scheme, "it does not have the factor; SAELens can fold it into the weights"
        )
    if scheme not in ("none", None, False):
        raise settings.refuse("normalize_activations", scheme, "it normalises each token")
    side_by_side = "it takes concatenated heads, whose order may differ from ours"
    settings.only("reshape_activations", "none", None, why=side_by_side)
    if old and "hook_z" in hook:
        raise settings.refuse("hook_name", hook, side_by_side)
    for name in ("finetuning_scaling_factor", "scaling_factor"):
        settings.only(name, False, None, 1, 1.0, why="its features are scaled before the decoder")


def _model_as_it_is(settings: Settings) -> None:
    """Refuse SAEs of a model whose weights were processed on loading (centred, or with norms folded in): we do neither."""
    for name in ("model_from_pretrained_kwargs", "model_kwargs"):
        changed = settings.inside(name)
        changed.drop_false()
        changed.done()


def _without_ones(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a ``scaling_factor`` of ones, which some versions wrote although they did not use it."""
    factor = weights.get("scaling_factor")
    unused = factor is not None and bool(torch.all(factor == 1))
    return {name: value for name, value in weights.items() if not (unused and name == "scaling_factor")}
