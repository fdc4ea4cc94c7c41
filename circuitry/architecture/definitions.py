"""From a name, a file or a model type to its architecture."""

from __future__ import annotations

import functools

from .. import content
from ..errors import CircuitryError, ModelError, suggest
from .families import Architecture

_REASONS = {
    "bloom codegen falcon gpt_neo gptj mpt openai-gpt xglm": "its attention does not go through transformers' attention "
    "interface, so its heads cannot be reached",
    "exaone4 flex_olmo gemma2 gemma3 gemma3_text glm4 olmo2 olmo3": "it normalises what attention and MLP give before adding it "
    "to the stream, so the contributions of heads do not add up",
    "flint gpt_oss granite_swa hy_v4 mimo_v2_flash": "its attention has sinks, which circuitry does not compute",
    "diffllama": "its heads subtract one attention pattern from another, and circuitry knows one pattern per head",
    "deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3": "its heads share compressed keys and values (latent attention), "
    "for which no graph is written yet",
    "bamba falcon_h1 granitemoehybrid lfm2 minimax nemotron_h olmo_hybrid recurrent_gemma xlstm zamba "
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
