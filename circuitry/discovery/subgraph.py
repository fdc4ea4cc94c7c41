"""Runs of a model in which only some edges carry clean values, and all others carry corrupted ones.

Every reader sees the corrupted stream plus, for each of its edges that is kept, the change of that edge's sender in this same run.
So the run is the circuit's: a kept edge carries what the circuit computes, not what the model does (Wang et al. 2023; Miller et al.
2024, arXiv:2407.08734, on edges). Readers with the same kept edges share a row; each row of the batch is one such view of the stream.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..architecture.families import Place
from ..executing.metrics import evaluate
from ..models.reading import own_value
from ..paths.values import Node
from ..prompting.prompts import Prompts
from .gradient import Gradients
from .passes import logits_at_end
from .question import Question
from .rows import Point
from .schemes import OfInput
from .wiring import Edge

Bools = NDArray[np.bool_]


@dataclass
class _View:
    """The rows of one circuit: ``first`` is the number of its first row, one row for each of ``views`` and example."""

    first: int
    kept: Bools
    views: dict[int, list[Bools]] = field(default_factory=dict)
    """For each stage, what each view keeps [sender, example, pos]; the first view is the run itself."""
    of: dict[Node, int] = field(default_factory=dict)
    """The view of each reader."""

    @property
    def size(self) -> int:
        """The number of rows for each example."""
        return max(len(rows) for rows in self.views.values())


class Subgraphs:
    """Runs of circuits on one batch of prompts.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> runs = Subgraphs(question, question.prompts)
    >>> everything = np.ones((len(question.wiring.edges), 2, question.prompts.length), bool)
    >>> whole, nothing = runs.measure([everything, ~everything])
    >>> bool(np.allclose(whole, runs.clean, atol=1e-3)), bool(np.allclose(nothing, runs.corrupted, atol=1e-3))
    (True, True)
    """

    def __init__(self, question: Question, prompts: Prompts) -> None:
        self.question, self.wiring, self.prompts, self.graph = question, question.wiring, prompts, question.wiring.graph
        self.count, self.length = len(prompts), prompts.length
        passed = Gradients(question.model, self.wiring, prompts, question.metric, OfInput((Point(0.0, 1.0),)))
        self.linear = passed.linear()
        self.clean, self.corrupted = passed.ends
        self._number = self.wiring.number

    def measure(self, circuits: Iterable[Bools]) -> Iterator[NDArray[np.float64]]:
        """The metric [example] of the run of each circuit [edge, example, pos]: the edges kept, by the tokens of their sources.

        As many share a batch as memory allows.
        """
        views, first = list[_View](), self.count
        most = max(2 * self.count, self.question.memory // self.question.model.bytes_per_row(self.length))
        for circuit in circuits:
            view = self._views(circuit, first)
            if views and first + self.count * view.size > most:
                yield from self._measured(views, first)
                views, first = [], self.count
                view = replace(view, first=first)
            views.append(view)
            first += self.count * view.size
        yield from self._measured(views, first)

    def _measured(self, views: Sequence[_View], rows: int) -> list[NDArray[np.float64]]:
        if not views:
            return []
        logits = self._run(views, rows)
        return [self._metric(logits, view) for view in views]

    def _views(self, kept: Bools, first: int) -> _View:
        """Group the readers of each stage by what they keep."""
        view = _View(first, kept)
        for stage in range(len(self.wiring.stages)):
            same: dict[bytes, int] = {}
            view.views[stage] = []
            for reader in (reader for reader in self.wiring.readers if self.wiring.before[reader] == stage):
                edges = [self._number[Edge(source, reader)] for source in self.wiring.sources(reader)]
                rows = kept[edges]
                key = rows.tobytes() if rows.any() else b""
                if key not in same:
                    same[key] = len(view.views[stage])
                    view.views[stage].append(rows)
                view.of[reader] = same[key]
        return view

    def _run(self, views: Sequence[_View], rows: int) -> Tensor:
        """One trace; the logits at END [row, vocabulary]."""
        graph, wiring = self.graph, self.wiring
        inside = {*wiring.senders, *wiring.readers, *wiring.blocks, *(edge.source for edge in wiring.inner)}
        at: dict[Place, list[Node]] = {}
        for node in inside:
            if graph.family(node.family).role not in ("logits", "embed"):
                at.setdefault(graph.place(node), []).append(node)
        stage = {graph.place(node): number for number, node in enumerate(wiring.stages)}
        sent = [self._nothing_sent() for _ in views]

        def act(place: Place, call: int, value: Tensor) -> Tensor:
            changed = value.clone()
            if place in stage:
                self._enter(changed, stage[place], views, sent)
            else:
                self._inside(changed, place, call, at[place], views, sent)
            return changed

        ids = np.concatenate([self.prompts.corrupted, *[self.prompts.clean] * (rows // self.count - 1)])
        nodes = [*wiring.stages, *(node for nodes in at.values() for node in nodes)]
        with self._needed(views):
            return logits_at_end(self.question.model, self.prompts, ids, nodes, act)

    @contextmanager
    def _needed(self, views: Sequence[_View]) -> Iterator[None]:
        """Within this context MLPs compute only the rows that something reads: most views of the stream are made for heads."""
        hf, blocks = self.question.model.hf, [node for node in self.wiring.blocks if self.graph.family(node.family).role == "mlp"]
        modules = [hf.get_submodule(self.graph.block(node)) for node in blocks]
        for node, module in zip(blocks, modules, strict=True):
            used = [slice(0, self.count), *(self._rows(view, 0) for view in views)]
            for reader in self.wiring.readers:
                if reader == node or (reader.indices == node.indices and self.graph.family(reader.family).role == "mlp_input"):
                    used += [self._rows(view, view.of[reader]) for view in views]
            rows = sorted({row for part in used for row in range(part.start, part.stop)})
            module.circuitry_rows = torch.tensor(rows, device=self.question.model.device)
        try:
            yield
        finally:
            for module in modules:
                module.circuitry_rows = None

    def _nothing_sent(self) -> Tensor:
        """Room for what each sender's output differs by from the corrupted run [example, pos, sender, d_model]."""
        like = self.linear.embedded
        return like.new_zeros(*like.shape[:2], len(self.wiring.senders), like.shape[2])

    def _enter(self, value: Tensor, stage: int, views: Sequence[_View], sent: Sequence[Tensor]) -> None:
        """Give every view of the stream what it keeps."""
        corrupted = value[: self.count].clone()
        count = sum(after <= stage for after in self.wiring.after.values())  # senders come in the order of their stages
        embed = self._sender[self.linear.embed]
        for view, changes in zip(views, sent, strict=True):
            if stage == 0:
                changes[:, :, embed] = value[view.first : view.first + self.count] - corrupted
            elif stage == 1:
                changes[:, :, embed] = -self.linear.embedded  # that is from clean to corrupted
            kept = torch.from_numpy(np.stack(view.views[stage])).to(changes)  # [view, sender, example, pos]
            total = corrupted + (kept.permute(2, 3, 0, 1) @ changes[:, :, :count]).permute(2, 0, 1, 3)
            value[view.first : view.first + len(kept) * self.count] = total.flatten(0, 1)

    def _inside(
        self,
        value: Tensor,
        place: Place,
        call: int,
        nodes: Sequence[Node],
        views: Sequence[_View],
        sent: Sequence[Tensor],
    ) -> None:
        """Take every reader from its own view, cut the inner edges that are not kept, and note what senders add."""
        corrupted = slice(0, self.count)
        for view, changes in zip(views, sent, strict=True):
            main = self._rows(view, 0)
            # All readers are gathered before any is written: a view may be the main row of another.
            gathered = [
                (node, own_value(value, place, node)[self._rows(view, view.of[node])].clone())
                for node in nodes
                if node in view.of
            ]
            for node, new in gathered:
                own_value(value, place, node)[main] = new
            for node in nodes:
                own = own_value(value, place, node)
                if node in self._cuts:
                    mask = ~view.kept[self._cuts[node]]
                    mask = mask[:, call : call + 1] if place.position is None else mask
                    chosen = torch.from_numpy(mask).to(value.device)
                    own[main][chosen] = own[corrupted][chosen]
                if node in self._sender:
                    change = own[main] - own[corrupted]
                    if node in self.linear.weights:
                        change = change @ self.linear.weights[node].mT
                    changes[:, :, self._sender[node]] = self.linear.scale * change

    @functools.cached_property
    def _cuts(self) -> dict[Node, int]:
        """The number of the inner edge that leaves each node."""
        return {edge.source: self._number[edge] for edge in self.wiring.inner}

    @functools.cached_property
    def _sender(self) -> dict[Node, int]:
        """The number of each sender."""
        return {node: number for number, node in enumerate(self.wiring.senders)}

    def _rows(self, view: _View, number: int) -> slice:
        start = view.first + number * self.count
        return slice(start, start + self.count)

    def _metric(self, logits: Tensor, view: _View) -> NDArray[np.float64]:
        logit_view = view.of[next(n for n in self.wiring.readers if self.graph.family(n.family).role == "logits")]
        answer, foil = (torch.from_numpy(tokens).to(logits.device) for tokens in (self.prompts.answer, self.prompts.foil))
        base = self.linear.logits.to(logits)
        value = evaluate(self.question.metric, logits[self._rows(view, logit_view)], base, answer, foil)
        return value.double().cpu().numpy()
