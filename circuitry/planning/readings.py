"""What a path reads at its end: the logits at the answer, with a metric, or anything else, with a distance."""

from __future__ import annotations

from ..architecture.graph import Graph
from ..paths.positions import Position
from ..paths.values import Path, Site


def reads_logits(path: Path, graph: Graph) -> bool:
    """Whether a path ends at the logits, at one position and nothing else: there its effect has a metric, elsewhere a distance.

    >>> import circuitry as ct
    >>> [reads_logits(ct.parse(f"embed -> {end}"), ct.graph("gpt2")) for end in ("logits @ 3", "mlp[0]", "(logits, mlp[0])")]
    [True, False, False]
    """
    return [graph.family(site.node.family).role for site in path.legs[-1].targets] == ["logits"]


def reads_latent(path: Path, graph: Graph) -> bool:
    """Whether a path ends at one latent at one position and nothing else: there its effect is the change of that number.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2").attached({ct.Node("resid", (3,)): 16})
    >>> [reads_latent(ct.parse(f"embed -> resid[3].{end}"), g) for end in ("latent[5] @ 3", "latent[5]", "latent @ 3")]
    [True, False, False]
    """
    ends = path.legs[-1].targets
    return len(ends) == 1 and ends[0].at is not None and ends[0].node.term is not None and ends[0].node.term.number is not None


def read_at(target: Site, graph: Graph) -> Position | None:
    """Where a target is read: the logits at the answer unless the path says otherwise.

    >>> import circuitry as ct
    >>> path = ct.parse("embed -> logits")
    >>> str(read_at(path.legs[0].targets[0], ct.graph("gpt2")))
    'END'
    """
    return Position("END") if target.at is None and graph.family(target.node.family).role == "logits" else target.at
