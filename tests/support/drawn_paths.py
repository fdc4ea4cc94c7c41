"""Paths over the nodes of a graph, drawn at random."""

from __future__ import annotations

from hypothesis import strategies as st

from circuitry import Graph, Node, Path, Position, Site
from circuitry.paths import Leg


@st.composite
def drawn(draw: st.DrawFn, graph: Graph) -> Path:
    """A path over nodes that exist; it may still be one that can have no effect."""
    nodes = graph.nodes(ports=True)
    body = [node for node in nodes if node.family != "logits"]
    position = st.sampled_from(
        (None, Position("A"), Position("B"), Position("B", 1), Position("END"), Position("END", -1), Position(3))
    )
    source = st.builds(Site, st.sampled_from(body), position)
    middle = st.lists(st.builds(Site, st.sampled_from(body), position), min_size=1, max_size=2).map(tuple)
    end = st.builds(Site, st.just(Node("logits")) | st.sampled_from(nodes), position).map(lambda site: (site,))
    whole = st.builds(lambda n, keep: Node(n.family, n.indices[:keep], n.port), st.sampled_from(body), st.integers(0, 2))
    frozen = st.lists(whole, max_size=2).map(tuple)
    between = [Leg(draw(middle), draw(frozen)) for _ in range(draw(st.integers(0, 1)))]
    last = Leg(draw(end), draw(frozen), (), draw(st.booleans()))
    return Path(draw(st.lists(source, min_size=1, max_size=2).map(tuple)), (*between, last))
