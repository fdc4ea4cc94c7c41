"""From a name, a file or a model type to its architecture."""

from __future__ import annotations

import functools

from .. import content
from ..errors import CircuitryError, ModelError, suggest
from .families import Architecture

_REASONS = {
    "bloom codegen falcon gpt_neo gptj mpt openai-gpt xglm": "its attention does not go through transformers' attention "
    "interface, so its heads cannot be reached",
    "diffllama": "its heads subtract one attention pattern from another, and circuitry knows one pattern per head",
    "gemma3": "it reads images too; give ct.load a Gemma3ForCausalLM of its text_config whose model is its language_model and whose lm_head is its own",
    "qwen3_5 qwen3_5_moe": "it reads images too; give ct.load its language model, which AutoModelForCausalLM.from_pretrained makes",
    "hy_v4": "its layers mix several residual streams, and an indexer picks the keys that its attention reads",
    "bamba falcon_h1 granitemoehybrid lfm2 minimax nemotron_h recurrent_gemma xlstm zamba "
    "zamba2": "circuitry has no instrumentation for its recurrent layers yet",
}
REFUSED = {kind: reason for kinds, reason in _REASONS.items() for kind in kinds.split()}
"""Hugging Face model types that circuitry refuses, and the reason for each."""


def definition(name: str) -> Architecture:
    """The architecture of a file in ``graphs/``, or of a custom file (``./mine.py``).

    Raises CircuitryError if there is none.

    >>> definition("mamba").model_types
    ('mamba',)
    """
    architecture = content.constant("graphs", name, "ARCHITECTURE")
    if not isinstance(architecture, Architecture):
        raise CircuitryError(f"ARCHITECTURE in {name} is {type(architecture).__name__}, not an Architecture")
    return architecture


@functools.cache
def model_types() -> dict[str, str]:
    """Hugging Face ``model_type`` to the name of its definition.

    >>> model_types()["qwen3"]
    'llama'
    """
    return {kind: name for name in content.names("graphs") for kind in definition(name).model_types}


def definition_for(model_type: str, file: str | None = None) -> Architecture:
    """The architecture of a Hugging Face ``model_type``: a shipped one, or that of a custom ``file``.

    Raises ModelError for a type that has none, or one that the file does not list.

    >>> definition_for("mistral").name
    'llama'
    """
    if file is not None:
        architecture = definition(file)
        if model_type not in architecture.model_types:
            raise ModelError(
                f"{file} is for models of type {', '.join(architecture.model_types)}; this one is of type {model_type!r}"
            )
        return architecture
    if model_type in REFUSED:
        raise ModelError(f"models of type {model_type!r} are refused: {REFUSED[model_type]}")
    if model_type not in model_types():
        raise ModelError(
            f"no graph for models of type {model_type!r}: {suggest(model_type, model_types())}. "
            "To add one, write a custom file that defines ARCHITECTURE: ct.load(..., graph='./mine.py')"
        )
    return definition(model_types()[model_type])
