"""Latents and errors of nodes with an autoencoder in the graph's questions. The networkx graph does not have them: there may be millions.

A change of any term enters its node at one place, and every term is read at one place. So a node with an autoencoder has two more
nodes in the graph that answers questions: one through which terms are written, one at which they are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from ..errors import CircuitryError
from ..paths.terms import ERROR, LATENT, Term
from ..paths.values import Node
from .rules import SAME

_WRITTEN, _READ = "(terms written)", "(terms read)"


@dataclass(frozen=True)
class Terms:
    """How many latents each node has, by node.

    >>> terms = Terms({Node("resid", (2,)): 16})
    >>> terms.check(Node("resid", (2,)).latent[17])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: resid[2] has no latent 17: it has 16; count from 0 to 15
    """

    latents: Mapping[Node, int]

    @property
    def attached(self) -> str:
        """The nodes that have an autoencoder, in words.

        >>> Terms({Node("resid", (2,)): 16}).attached
        'attached are: resid[2]'
        """
        return f"attached are: {', '.join(map(str, self.latents)) or 'none'}"

    def check(self, node: Node) -> None:
        """Refuse a term of a node without an autoencoder, and a latent past its last."""
        if wrong := self.wrong(node):
            raise CircuitryError("; ".join(wrong))

    def wrong(self, node: Node) -> tuple[str, str] | None:
        """What is wrong with a term, and what to try; None if nothing is, or the node is not a term."""
        if node.term is None:
            return None
        if (count := self.latents.get(node.host)) is None:
            hint = f"model.attach(sae) attaches one, or --attach FOLDER of a command; {self.attached}"
            return f"{node.host} has no autoencoder, so it has no {node.term}", hint
        if (number := node.term.number) is not None and number >= count:
            return f"{node.host} has no latent {number}: it has {count:,}", f"count from 0 to {count - 1:,}"
        return None

    def extended(self, network: nx.DiGraph[Node], *, read_after: bool) -> nx.DiGraph[Node]:
        """The network with the two nodes of each node that has terms.

        Terms are read from what the node would be without a written term, so a written one does not reach a read one. With
        ``read_after``, the read one comes after the node itself: too many ways, for live sets, in which the node has to be computed.
        """
        if not self.latents:
            return network
        full = network.copy()
        for host in self.latents:
            full.add_edge(_at(host, _WRITTEN), host, rule=SAME)
            before = [(host, SAME)] if read_after else [(s, data["rule"]) for s, _, data in network.in_edges(host, data=True)]
            full.add_node(_at(host, _READ))  # the embedding has nothing before it
            for source, rule in before:
                full.add_edge(source, _at(host, _READ), rule=rule)
        return full

    def entry(self, node: Node) -> Node:
        """Where a change that is written to a node begins."""
        return node if node.term is None else _at(node.host, _WRITTEN)

    def exit(self, node: Node) -> Node:
        """Where a node is read."""
        return node if node.term is None else _at(node.host, _READ)

    def closed(self, frozen: Iterable[Node]) -> set[Node]:
        """The nodes through which nothing passes: a node all of whose terms are frozen is frozen, a node with some of them is not."""
        every = set(frozen)
        whole = {node.host for node in every if node.term == Term(LATENT)}
        whole &= {node.host for node in every if node.term and node.term.name == ERROR}
        return {node for node in every if node.term is None} | whole


def _at(host: Node, mark: str) -> Node:
    return replace(host, port=f"{host.port or ''}{mark}")


def is_mark(node: Node) -> bool:
    """Whether a node is one of those that only answer questions about terms.

    >>> is_mark(Terms({}).entry(Node("resid", (2,)).error)), is_mark(Node("resid", (2,)))
    (True, False)
    """
    return node.port is not None and node.port.endswith(")")


def host_of(node: Node) -> Node:
    """The node whose value has a term, or to which a mark belongs.

    >>> str(host_of(Terms({}).exit(Node("resid", (2,)).error)))
    'resid[2]'
    """
    if is_mark(node) and node.port is not None:
        return replace(node, port=node.port.removesuffix(_WRITTEN).removesuffix(_READ) or None)
    return node.host


def terms_among(nodes: Collection[Node]) -> list[Node]:
    """The terms among some nodes, in the order of their text.

    >>> [str(n) for n in terms_among([Node("resid", (2,)), Node("resid", (2,)).error])]
    ['resid[2].error']
    """
    return sorted((node for node in nodes if node.term is not None), key=str)


def single_latents(terms: Sequence[Node]) -> tuple[list[int], list[int]]:
    """Which of some nodes are single latents, by their places, and the numbers of these latents.

    >>> host = Node("resid", (2,))
    >>> single_latents([host.latent, host.latent[17], host.error])
    ([1], [17])
    """
    pairs = [(place, node.term.number) for place, node in enumerate(terms) if node.term and node.term.number is not None]
    return [place for place, _ in pairs], [number for _, number in pairs]
