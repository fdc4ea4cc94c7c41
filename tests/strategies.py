"""Hypothesis strategies: every path that can be written, paths over the nodes of a graph, and text that is almost a path."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from circuitry import Graph
from circuitry.paths import Axis, Leg, Node, Path, Position, Site
from circuitry.paths.parse import WORDS

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
    """A leg; nodes are spared only where some are held."""
    frozen, directly = draw(sets_of_nodes), draw(st.booleans())
    spared = draw(sets_of_nodes) if frozen or directly else ()
    return Leg(draw(sets_of_sites), frozen, spared, directly)


paths = st.builds(Path, sets_of_sites, st.lists(legs(), min_size=1, max_size=3).map(tuple))


def few(count: int) -> settings:
    """So many examples, the same on every run; under a profile that looks for new ones, as many as that says."""
    return settings(max_examples=count) if settings().derandomize else settings()


@st.composite
def paths_on(draw: st.DrawFn, graph: Graph, most_legs: int = 2) -> Path:
    """A path over nodes that exist; it may still be one that can have no effect."""
    return draw(paths_to(graph, draw(_ends(graph)), most_legs))


@st.composite
def alike_on(draw: st.DrawFn, graph: Graph, most: int = 3) -> list[Path]:
    """Several such paths that end alike, so that they make one table."""
    end = draw(_ends(graph))
    return draw(st.lists(paths_to(graph, end, 3), min_size=1, max_size=most))


@st.composite
def paths_to(draw: st.DrawFn, graph: Graph, end: tuple[Site, ...], most_legs: int) -> Path:
    """A path over a graph that ends at these sites."""
    some = st.lists(_sites(graph), min_size=1, max_size=2).map(tuple)
    whole = st.builds(lambda n, keep: Node(n.family, n.indices[:keep], n.port), st.sampled_from(_body(graph)), st.integers(0, 2))
    frozen = st.lists(whole, max_size=2).map(tuple)
    between = [Leg(draw(some), draw(frozen)) for _ in range(draw(st.integers(0, most_legs - 1)))]
    return Path(draw(some), (*between, Leg(end, draw(frozen), (), draw(st.booleans()))))


_POSITIONS = st.sampled_from(
    (None, Position("A"), Position("B"), Position("B", 1), Position("END"), Position("END", -1), Position(3))
)


def _body(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes(ports=True) if node.family != "logits"]


def _sites(graph: Graph) -> st.SearchStrategy[Site]:
    return st.builds(Site, st.sampled_from(_body(graph)), _POSITIONS)


def _ends(graph: Graph) -> st.SearchStrategy[tuple[Site, ...]]:
    """The logits most often; other nodes, and sets."""
    logits = st.builds(Site, st.just(Node("logits")), _POSITIONS)
    return st.one_of(
        logits.map(lambda site: (site,)),
        _sites(graph).map(lambda site: (site,)),
        st.tuples(logits | _sites(graph), _sites(graph)),
    )


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
