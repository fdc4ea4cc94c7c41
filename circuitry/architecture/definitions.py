"""From a name, a file or a model type to its architecture."""

from __future__ import annotations

import functools

from .. import content
from ..errors import CircuitryError, ModelError, suggest
from .families import Architecture

_REASONS = {
    "openai-gpt": "its layers normalise the residual stream itself, so what is added to the stream does not add up",
    "nanochat": "it uses one norm before its layers and after them, so the stream after the last layer cannot be told apart",
    "bitnet": "it normalises all heads together before the output projection, so what heads contribute does not add up",
    "laguna lfm3": "the output of its heads is multiplied by a gate that reads the stream, for which no graph is written yet",
    "diffllama": "its heads subtract one attention pattern from another, and circuitry knows one pattern per head",
    "gemma3": "it reads images too; give ct.load a Gemma3ForCausalLM of its text_config whose model is its language_model and whose lm_head is its own",
    "qwen3_5 qwen3_5_moe": "it reads images too; give ct.load its language model, which AutoModelForCausalLM.from_pretrained makes",
    "hy_v4": "its layers mix several residual streams, and an indexer picks the keys that its attention reads",
    "minimax": "it adds what a block gives to the normalised stream, so every block changes what all blocks before it added",
    "xlstm": "the state of its heads is a matrix with a normaliser and a running maximum (mLSTM), for which circuitry has no scan",
    "zamba": "its shared attention block gives its output to the layer's mixer, as in Zamba2, but the mixer is Mamba-1's with several "
    "heads, for which no graph is written yet",
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


@functools.cache
def roles() -> frozenset[str]:
    """Every role that a node of a shipped architecture plays.

    >>> sorted(roles())[-3:]
    ['state', 'step', 'write_input']
    """
    every = {family.role for name in content.names("graphs") for family in definition(name).families}
    return frozenset(every - {""})


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
