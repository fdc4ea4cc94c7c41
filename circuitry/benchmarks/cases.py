"""Models whose circuits are known: compiled ones by construction, trained ones by patching everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import networkx as nx

from ..compiled.graded.build import catalogue, graded
from ..compiled.truth import GroundTruth, span
from ..discovery.question import Question
from ..discovery.wiring import Edge, Wiring
from ..models.loading import load
from ..models.model import Model
from ..prompting.task import Task
from ..prompting.task import task as make_task

COUNT = 42
"""Compiled models in the benchmark."""
BUNDLED = ("gpt_neox", "mamba", "mamba2", "rwkv")
"""Trained models in the benchmark."""
CORRUPTIONS = ("A", "B")
CellNumbers = tuple[int, int]
"""The numbers of an edge and a label."""


@dataclass(frozen=True)
class Case:
    """A model, a task, and the truth of its circuit; None if it is known by patching every edge only.

    ``family`` is what results are averaged over.
    """

    name: str
    family: str
    model: Model
    task: Task
    truth: GroundTruth | None = None

    @property
    def corruption(self) -> str:
        """Which token the corrupted prompts exchange.

        >>> next(truth(1)).corruption
        'A'
        """
        return str(self.task.options["corruption"])

    def cells(self, question: Question) -> set[CellNumbers]:
        """The edges at positions that carry the task, by construction.

        >>> from circuitry.discovery.search import asked
        >>> case = next(truth(1))
        >>> len(case.cells(asked(case.model, case.task))) > 2
        True
        """
        assert self.truth is not None
        prompts, labels = question.prompts, question.labels
        where = {name: int(at[0]) for name, at in prompts.where.items()}  # induction's prompts have them all at one token
        column = {int(token): number for number, mask in enumerate(labels.mask[0]) for token in mask.nonzero()[0]}
        ends = _edges(self.truth, self.corruption, where, question.wiring)
        return {(question.wiring.number[edge], column[at]) for edge, at in ends if at in column}


def truth(count: int = COUNT, examples: int = 16) -> Iterator[Case]:
    """The compiled models, each with both corruptions of induction.

    >>> case = next(truth(1))
    >>> case.family, case.task.name
    ('gpt_neox', 'induction')
    """
    for family, seed in catalogue(count):
        made = graded(family, seed)
        model = load(made.hf)
        for corruption in CORRUPTIONS:
            task = make_task("induction", distance=8, prefix=3, corruption=corruption, examples=examples, seed=seed)
            yield Case(f"{family} {seed}", family, model, task, made.truth)


def trained(examples: int = 16) -> Iterator[Case]:
    """The bundled models, each with both corruptions of induction; their truth is what patching every edge shows.

    >>> next(trained()).family
    'bundled gpt_neox'
    """
    for name in BUNDLED:
        model = load(f"bundled:{name}")
        for corruption in CORRUPTIONS:
            task = make_task("induction", distance=8, corruption=corruption, examples=examples)
            yield Case(f"bundled:{name}", f"bundled {name}", model, task)


Site = tuple[str, int]
"""A node, by name, at a token."""


def _edges(truth: GroundTruth, corruption: str, where: dict[str, int], wiring: Wiring) -> set[tuple[Edge, int]]:
    """The true edges of discovery's graph at tokens: over the stream from a true sender to a true reader, inside blocks by their source."""
    sites = truth.sites(corruption, where)
    routes: nx.DiGraph[Site] = nx.DiGraph()
    for arrow in truth.edges:
        if arrow.corruption == corruption and arrow.how == "same position":
            (source, at), (target, there) = arrow.source.split(" @ "), arrow.target.split(" @ ")
            shared = set(span(at, where)) & set(span(there, where))
            routes.add_edges_from(((source, token), (target, token)) for token in shared)
    passed = {str(node) for node in (*wiring.stages, *wiring.sums)}
    between: nx.DiGraph[Site] = nx.DiGraph(routes.subgraph([site for site in routes if site[0] in passed]))
    return {
        (edge, token)
        for edge in wiring.edges
        for name, token in sites
        if name == str(edge.source)
        and (edge.source not in wiring.after or _joined(routes, between, (name, token), (str(edge.target), token)))
    }


def _joined(routes: nx.DiGraph[Site], between: nx.DiGraph[Site], source: Site, target: Site) -> bool:
    """Whether the truth leads from a sender to a reader through the stream alone."""
    if source not in routes or target not in routes:
        return False
    starts = [site for site in routes.successors(source) if site in between]
    stops = {site for site in routes.predecessors(target) if site in between}
    return any(start in stops or nx.has_path(between, start, stop) for start in starts for stop in stops)
