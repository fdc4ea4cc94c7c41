"""Methods of attribution, each in a file of its own. A new one is one file and one entry of ``METHODS``."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CircuitryError, suggest
from ..question import Question
from .atp_star import AtpStar
from .blocks import BlockIg
from .eap import Eap
from .eap_ig_activations import EapIgActivations
from .eap_ig_inputs import EapIgInputs
from .exact import Exact
from .ig_activations import IgActivations
from .method import Method
from .random import Random
from .relp import Relp

__all__ = ["DEFAULT", "METHODS", "Method", "default", "method"]

METHODS: Mapping[str, Method] = {
    entry.name: entry
    for entry in (BlockIg(), Eap(), AtpStar(), Relp(), EapIgInputs(), EapIgActivations(), IgActivations(), Exact(), Random())
}
DEFAULT = BlockIg.name
AFFORDABLE = 200
"""Passes that the default may take for nodes."""


def default(question: Question) -> Method:
    """The method if none is named: ``block-ig``; for nodes ``ig-activations``, if it takes at most ``AFFORDABLE`` passes.

    >>> from circuitry.discovery.search import asked
    >>> import circuitry as ct
    >>> task = ct.task("induction", distance=8, examples=2)
    >>> [default(asked(ct.load("bundled:mamba"), task, level=level)).name for level in ("edge", "node")]
    ['block-ig', 'ig-activations']
    """
    slower = METHODS[IgActivations.name]
    return slower if question.level == "node" and slower.passes(question) <= AFFORDABLE else METHODS[DEFAULT]


def method(named: str | Method) -> Method:
    """A method by name; a value is returned as it is. Raises CircuitryError for an unknown name.

    >>> method("eap").name
    'eap'
    """
    if not isinstance(named, str):
        return named
    if named not in METHODS:
        raise CircuitryError(f"no method {named!r}; {suggest(named, METHODS)}")
    return METHODS[named]
