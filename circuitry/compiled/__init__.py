"""Compiled models: their circuits are known because their weights are constructed, not trained.

ct.load("compiled:mamba")               # a model like any other
ct.compiled.truth("compiled:mamba")     # every node and edge that matters in it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ..errors import ModelError, expected, suggest
from .truth import GroundTruth, TrueComponent, TrueEdge, TrueNode, TrueSetting

NAMES = ("gated_delta", "ioi", "mamba", "mamba2", "rwkv", "transformer")
"""The compiled models; ``ct.load`` takes them as "compiled:mamba" and so on."""

__all__ = ["NAMES", "GroundTruth", "TrueComponent", "TrueEdge", "TrueNode", "TrueSetting", "build", "truth"]


def build(name: str) -> tuple[Any, Any]:
    """A compiled model as a Hugging Face model in float32 and eval mode, and its tokenizer; None if its tokens are numbers.

    Raises ModelError for a name that is not in ``NAMES``.

    >>> hf, tokenizer = build("mamba")
    >>> type(hf).__name__, tokenizer
    ('MambaForCausalLM', None)
    """
    module = _module(name)
    return module.build(), getattr(module, "tokenizer", lambda: None)()


def truth(name: str, task: str | None = None) -> GroundTruth:
    """Which nodes and edges of a compiled model carry a task, by construction; without ``task``, the one that it is made for.

    Raises ModelError for an unknown name, or a task whose circuit in this model is not known.

    >>> truth("mamba").components[0].node, truth("gated_delta", "overwrite").corruptions
    ('ssm_state[1]', ('A', 'B'))
    """
    module = _module(name)
    own: GroundTruth = module.truth()
    if task in (None, own.task):
        return own
    others: Mapping[str, Callable[[], GroundTruth]] = getattr(module, "TRUTHS", {})
    if task not in others:
        raise ModelError(
            expected(
                f"a task whose circuit in compiled:{name.removeprefix('compiled:')} is known",
                task,
                suggest(task, [own.task, *others]),
            )
        )
    return others[task]()


def _module(name: str) -> Any:
    short = name.removeprefix("compiled:")
    if short not in NAMES:
        raise ModelError(expected("a compiled model", name, suggest(short, NAMES)))
    return import_module(f".{short}", __name__)
