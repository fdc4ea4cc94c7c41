"""The path language: values, text and Python operators. Imports no torch."""

from .json import from_json, to_json
from .parse import GRAMMAR, parse, parse_node, parse_position
from .values import Axis, Index, Leg, Node, Path, Position, Site, axis, position, sites

__all__ = [
    "GRAMMAR",
    "Axis",
    "Index",
    "Leg",
    "Node",
    "Path",
    "Position",
    "Site",
    "axis",
    "from_json",
    "parse",
    "parse_node",
    "parse_position",
    "position",
    "sites",
    "to_json",
]
