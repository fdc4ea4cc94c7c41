"""The path language: values, text and Python operators. Imports no torch."""

from .json import from_data, from_json, to_data, to_json
from .labelled import Labelled, labelled
from .parse import GRAMMAR, parse, parse_node, parse_position
from .positions import Axis, Index, Position
from .values import Leg, Node, Path, Site, axis, position, sites

__all__ = [
    "GRAMMAR",
    "Axis",
    "Index",
    "Labelled",
    "Leg",
    "Node",
    "Path",
    "Position",
    "Site",
    "axis",
    "from_data",
    "from_json",
    "labelled",
    "parse",
    "parse_node",
    "parse_position",
    "position",
    "sites",
    "to_data",
    "to_json",
]
