"""Methods of attribution, each in a file of its own. A new one is one file and one entry of ``METHODS``."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CircuitryError, suggest
from .atp_star import AtpStar
from .blocks import BlockIg
from .eap import Eap
from .eap_ig_activations import EapIgActivations
from .eap_ig_inputs import EapIgInputs
from .exact import Exact
from .method import Method
from .random import Random
from .relp import Relp

__all__ = ["DEFAULT", "METHODS", "Method", "method"]

METHODS: Mapping[str, Method] = {
    entry.name: entry for entry in (BlockIg(), Eap(), AtpStar(), Relp(), EapIgInputs(), EapIgActivations(), Exact(), Random())
}
DEFAULT = BlockIg.name


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
