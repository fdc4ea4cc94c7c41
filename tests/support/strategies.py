"""Hypothesis strategies: every path that can be written, and text that is almost one."""

from __future__ import annotations

from hypothesis import strategies as st

from circuitry.paths import Axis, Leg, Node, Path, Position, Site
from circuitry.paths.scanner import WORDS

LARGEST = 10**9 - 1

rare_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(lambda name: name not in WORDS)
names = st.sampled_from(("head", "h", "B", "S2", "_", "freezing_", "layer", "L0", "x" * 40)) | rare_names
numbers = st.integers(0, LARGEST)
axes = st.builds(Axis, names)
offsets = st.integers(-LARGEST, LARGEST)
positions = st.builds(Position, names | axes, offsets) | st.builds(Position, numbers)
nodes = st.builds(Node, names, st.lists(numbers | axes, max_size=3).map(tuple), st.none() | names)
site = st.builds(Site, nodes, st.none() | positions)
sets_of_sites = st.lists(site, min_size=1, max_size=3).map(tuple)
sets_of_nodes = st.lists(nodes, max_size=3).map(tuple)


@st.composite
def legs(draw: st.DrawFn) -> Leg:
    """A leg; nodes are exempt only where some are held."""
    frozen, directly = draw(sets_of_nodes), draw(st.booleans())
    exempt = draw(sets_of_nodes) if frozen or directly else ()
    return Leg(draw(sets_of_sites), frozen, exempt, directly)


paths = st.builds(Path, sets_of_sites, st.lists(legs(), min_size=1, max_size=3).map(tuple))

TOKENS = (
    *WORDS,
    *"[](){}@,.+->",
    *("->", "-> ", "{layer}", "head", "h", "B", "0", "17", "9" * 12, "9" * 5000, "\N{RIGHTWARDS ARROW}", "\u0663", "\u00b2"),
    *(" ", "\n", "\u00a0", "\u2028", "\x00", "\x1c", "\ud800", "\N{COMBINING ACUTE ACCENT}", "\N{GRINNING FACE}", "h\u00e9"),
)

soup = st.lists(st.sampled_from(TOKENS), max_size=25).map("".join) | st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The text of a path after a few edits: something cut, put in or written twice."""
    text = str(draw(paths))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + draw(st.sampled_from((*TOKENS, text[start:stop] * 2)) | st.text(max_size=3)) + text[stop:]
    return text
