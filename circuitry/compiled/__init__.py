"""Compiled models: their circuits are known because their weights are constructed, not trained.

ct.load("compiled:mamba")               # a model like any other
ct.compiled.truth("compiled:mamba")     # every node and edge that matters in it
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import ModelError, expected, suggest
from .truth import GroundTruth, TrueComponent, TrueEdge, TrueNode

NAMES = ("ioi", "mamba", "mamba2", "rwkv", "transformer")
"""The compiled models; ``ct.load`` takes them as "compiled:mamba" and so on."""

__all__ = ["NAMES", "GroundTruth", "TrueComponent", "TrueEdge", "TrueNode", "build", "truth"]


def build(name: str) -> tuple[Any, Any]:
    """A compiled model as a Hugging Face model in float32 and eval mode, and its tokenizer; None if its tokens are numbers.

    Raises ModelError for a name that is not in ``NAMES``.

    >>> hf, tokenizer = build("mamba")
    >>> type(hf).__name__, tokenizer
    ('MambaForCausalLM', None)
    """
    module = _module(name)
    return module.build(), getattr(module, "tokenizer", lambda: None)()


def truth(name: str) -> GroundTruth:
    """Which nodes and edges of a compiled model carry its task, by construction. Raises ModelError for an unknown name.

    >>> truth("mamba").components[0].node
    'ssm_state[1]'
    """
    ground_truth: GroundTruth = _module(name).truth()
    return ground_truth


def _module(name: str) -> Any:
    short = name.removeprefix("compiled:")
    if short not in NAMES:
        raise ModelError(expected("a compiled model", name, suggest(short, NAMES)))
    return import_module(f".{short}", __name__)
