"""What an architecture file is made of: node families with their places in the model, and edges with position rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .rules import Edge


@dataclass(frozen=True)
class Place:
    """Where a node's value is found: the input or output of a module, and which dimensions are position and unit.

    ``module`` is a template over the family's index names; "" is the model itself, whose output is the logits it returns. ``unit`` is the dimension of the last index (the head);
    ``position`` is None where the module is called once for every position of interest (a recurrent state). ``end``
    is the module whose input holds the value one layer past the last.
    """

    module: str
    io: Literal["input", "output"] = "output"
    position: int | None = 1
    unit: int | None = None
    end: str | None = None


@dataclass(frozen=True)
class Family:
    """A kind of node: its indices, ports, tensor shape, and where it is read, written and frozen.

    ``role`` is what suites ask for instead of a name, so that a state is found in any architecture. ``adds`` marks nodes
    whose value is added to the residual stream. ``frozen_through`` lists the places to hold in order to freeze the node where
    that is not its own place; ``freezable`` names what can be frozen: "" the node itself, the name of a port that port.
    """

    name: str
    indices: tuple[str, ...]
    shape: str
    meaning: str
    place: Place | None = None
    ports: Mapping[str, Place] = field(default_factory=dict)
    role: str = ""
    adds: bool = False
    frozen_through: tuple[Place, ...] = ()
    freezable: tuple[str, ...] = ("",)
    value_port: str | None = None
    """The port that is another name for the node itself: a head's ``z``."""
    block: str = ""
    """Template of the module that computes a node which is added to the stream, if a norm comes after it: the place is then the
    norm's. "" if the place is the block's own."""


Sizes: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Architecture:
    """The one constant of a file in ``graphs/``: everything circuitry knows about a kind of model.

    ``sizes`` maps a Hugging Face config to the number of layers, heads and so on; ``edges`` lists the edges for given
    sizes, and for a ``layout`` if the architecture has one; ``aliases`` are short names from the paper; ``instrumentation`` says for a family of blocks which entry of ``circuitry.models``
    is attached to their modules.
    """

    name: str
    model_types: tuple[str, ...]
    citations: tuple[str, ...]
    families: tuple[Family, ...]
    sizes: Callable[[Any], dict[str, int]]
    edges: Callable[..., Iterable[Edge]]
    instrumentation: Mapping[str, str]
    layers: str
    """Template of the module that is one layer, such as ``gpt_neox.layers.{layer}``."""
    example: Mapping[str, int] = field(default_factory=dict)
    """Sizes used if no model is given: those of a well-known checkpoint."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    windows: Callable[[Any], Mapping[int, int]] = lambda config: {}
    """From a Hugging Face config to the width of each layer's sliding window; a layer that is not named sees all tokens before."""
    layout: Callable[[Any], tuple[str, ...]] = lambda config: ()
    """From a Hugging Face config to what each layer is built of, where layers differ (``layered``)."""
    pattern: tuple[str, ...] = ()
    """The layout used if no model is given, repeated as often as there are layers."""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each kind of layer in the layout, what else may stand in braces in templates of its places: names of its own modules."""
