"""One pass through a model with gradients: how the metric depends on every node, and on the stream as every reader sees it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..architecture.families import Place
from ..architecture.graph import Graph
from ..errors import CircuitryError
from ..executing.metrics import evaluate
from ..models.model import Model
from ..models.reading import own_value
from ..paths.values import Node
from ..planning.metrics import Metric
from ..prompting.prompts import Prompts
from .passes import logits_at_end
from .rows import Rows
from .schemes import Scheme, Taken
from .wiring import Wiring


@dataclass(frozen=True)
class Linear:
    """What is linear between blocks: ``weights`` map a head's output to the stream [d_model, d_head], ``scales`` are
    the factors by which the model multiplies what each sender adds, ``embedded`` [example, pos, d_model] is the change of the embedding where it has been added. ``logits`` [example,
    vocabulary] are those of the clean run at END."""

    embed: Node
    embedded: Tensor
    scales: dict[Node, float]
    weights: dict[Node, Tensor]
    logits: Tensor


class Gradients:
    """The metric's gradient on one batch of prompts; every method gives tensors [example, pos, ...].

    A scheme says which runs lie between the clean and the corrupted one, and so what the gradient is averaged over. The graph of
    torch's autograd is kept, so a batch takes the memory of all its activations until this value is dropped.

    >>> import circuitry as ct
    >>> from circuitry.discovery.rows import legendre
    >>> from circuitry.discovery.schemes import OfInput
    >>> model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2)
    >>> wiring, prompts = Wiring(model.graph), task.prompts(model.vocabulary)
    >>> passed = Gradients(model, wiring, prompts, ct.planning.METRICS["logit_difference"], OfInput(legendre(1)))
    >>> tuple(passed.of(model.graph.node("mlp[1]")).shape), tuple(passed.seen(model.graph.node("head[1,0].k")).shape)
    ((2, 16), (2, 16, 128))
    """

    def __init__(
        self,
        model: Model,
        wiring: Wiring,
        prompts: Prompts,
        metric: Metric,
        scheme: Scheme,
        within: Callable[[Rows], AbstractContextManager[None]] = lambda rows: nullcontext(),
    ) -> None:
        self.model, self.wiring, self.graph, self.prompts = model, wiring, wiring.graph, prompts
        self.rows, self.metric, self.scheme = Rows(len(prompts), scheme.points), metric, scheme
        self._taken: dict[tuple[Place, int], Taken] = {}
        self._change: dict[tuple[Place, int], Tensor] = {}
        self._stages = {self.graph.place(stage) for stage in wiring.stages}
        self._branches = {self.graph.place(node): number for number, node in enumerate(wiring.blocks)}
        with within(self.rows):
            total = self._run()
        entries = [taken.node for taken in self._taken.values()] + [taken.between for taken in self._taken.values()]
        grads = torch.autograd.grad(total, entries, retain_graph=True, allow_unused=True)
        filled = [torch.zeros_like(entry) if grad is None else grad for entry, grad in zip(entries, grads, strict=True)]
        self._at = dict(zip(self._taken, filled, strict=False))
        self._through = dict(zip(self._taken, filled[len(self._taken) :], strict=True))

    def _run(self) -> Tensor:
        """Run the batch and return the metric's mean over the points, summed over the examples."""
        graph, wiring = self.graph, self.wiring
        every = {*wiring.senders, *wiring.stages, *wiring.readers, *graph.adding, *wiring.nodes}
        nodes = [node for node in every if graph.family(node.family).role != "logits"]
        embed = {graph.place(node) for node in graph.nodes() if graph.family(node.family).role == "embed"}

        def act(place: Place, call: int, value: Tensor) -> Tensor:
            if place in embed:
                taken = self.scheme.embedding(value, self.rows)
            elif place in self._stages:
                taken = self.scheme.stream(value, self.rows)
            elif place in self._branches:
                taken = self.scheme.branch(value, self.rows, self._branches[place])
            else:
                taken = self.scheme.inside(value, self.rows)
            self._taken[place, call], self._change[place, call] = taken, self.rows.change(value)
            return taken.written

        ids = self.rows.ids(self.prompts)
        return self._measured(logits_at_end(self.model, self.prompts, ids, nodes, act, gradients=True))

    def _measured(self, logits: Tensor) -> Tensor:
        """The metric of the logits at END [row, vocabulary]."""
        prompts, rows = self.prompts, self.rows
        base = rows.clean(logits).detach()
        answer, foil = (torch.from_numpy(tokens).to(logits.device) for tokens in (prompts.answer, prompts.foil))
        self._base = base
        clean, corrupted = (evaluate(self.metric, run.detach(), base, answer, foil) for run in (base, rows.corrupted(logits)))
        self.ends = clean.double().cpu().numpy(), corrupted.double().cpu().numpy()
        values = [evaluate(self.metric, run, base, answer, foil) for run in rows.by_point(rows.between(logits))]
        total = rows.mean(torch.cat(values)).sum()
        if not total.requires_grad:
            raise CircuitryError(
                f"the metric {self.metric.name!r} has no gradient with respect to the logits; use one made of torch's differentiable "
                "operations, or method='exact'"
            )
        return total

    def of(self, node: Node) -> Tensor:
        """The attribution of a node [example, pos]: its change between the two prompts times the gradient, summed over its entries."""
        change, grad = self.change(node), self.gradient(node)
        return (change * grad).flatten(2).sum(2) if change.dim() > 2 else change * grad

    def gradient(self, node: Node) -> Tensor:
        """The gradient with respect to a node's value [example, pos, ...], averaged as the scheme says."""
        grad = self._own(node, self._at)
        return grad if grad.shape[0] == len(self.prompts) else self.rows.by_point(grad).sum(0)

    def values(self, node: Node) -> tuple[Tensor, Tensor]:
        """A node's values on the clean and on the corrupted prompts [example, pos, ...]."""
        written = self._own(node, {place: taken.written.detach() for place, taken in self._taken.items()})
        return self.rows.clean(written), self.rows.corrupted(written)

    def change(self, node: Node) -> Tensor:
        """By how much a node's value differs between the two prompts [example, pos, ...]."""
        return self._own(node, self._change)

    def _own(self, node: Node, values: dict[tuple[Place, int], Tensor]) -> Tensor:
        place = self.graph.place(node)
        calls = range(self.prompts.length if place.position is None else 1)
        return torch.cat([own_value(values[place, call], place, node) for call in calls], 1)

    def seen(self, reader: Node) -> Tensor:
        """The gradient with respect to the stream as one reader sees it [example, pos, d_model]."""
        stage = self._taken[self.graph.place(self.wiring.stages[self.wiring.before[reader]]), 0].between
        if self.graph.family(reader.family).role == "logits":
            grad = self._through[self.graph.place(self.wiring.stages[-1]), 0]
        else:
            place = self.graph.place(reader)
            output = self._through[place, 0]
            if place.unit is not None:  # only this head's part
                mask = torch.zeros_like(output)
                own_value(mask, place, reader)[:] = own_value(output, place, reader)
                output = mask
            grad = torch.autograd.grad(self._taken[place, 0].between, stage, output, retain_graph=True)[0]
        return self.rows.by_point(grad).sum(0)

    def into(self, stage: int) -> dict[Node, Tensor]:
        """The attributions of all edges over the stream into the readers of a stage, each [source, example, pos] in the order of ``wiring.sources``."""
        readers = [reader for reader in self.wiring.readers if self.wiring.before[reader] == stage]
        if not readers:
            return {}
        grads = torch.stack([self.seen(reader) for reader in readers], -1)
        if stage == 0:  # before anything is added, the stream is the embedding alone, not yet normed
            change = self._change[self.graph.place(self.wiring.stages[0]), 0][None]
        else:
            # Senders come in the order of the stages that they add to.
            change = self._stacked[: len(self.wiring.sources(readers[0]))]
        by_token = change.permute(1, 2, 0, 3) @ grads  # [example, pos, source, reader]
        return dict(zip(readers, by_token.permute(3, 2, 0, 1), strict=True))

    def edge(self, source: Node, reader: Node) -> Tensor:
        """The attribution of one edge over the stream [example, pos]."""
        return self.into(self.wiring.before[reader])[reader][self.wiring.sources(reader).index(source)]

    @functools.cached_property
    def _stacked(self) -> Tensor:
        return torch.stack([self.contributions[sender] for sender in self.wiring.senders])

    @functools.cached_property
    def contributions(self) -> dict[Node, Tensor]:
        """By how much what each sender adds to the stream differs between the two prompts [example, pos, d_model].

        Raises CircuitryError if the stream is not the sum of what its senders add.
        """
        linear = self.linear()
        added = {linear.embed: linear.embedded}
        for block in self.wiring.blocks:
            for part in self.wiring.sums.get(block, (block,)):
                change = self.change(part)
                added[part] = linear.scales[part] * (change @ linear.weights[part].mT if part in linear.weights else change)
        return added

    def linear(self) -> Linear:
        """What is linear between blocks. Raises CircuitryError if the stream is not the sum of what its senders add."""
        embed = next(node for node in self.wiring.senders if self.graph.family(node.family).role == "embed")
        _check_embedding(self.graph, embed)
        stages = [self._change[self.graph.place(stage), 0] for stage in self.wiring.stages]
        totals: dict[str, list[Tensor]] = {}
        for block in self.wiring.blocks:
            by_stage = totals.setdefault(block.family, [torch.zeros_like(stages[0]) for _ in stages])
            by_stage[self.wiring.stage_after(block)] += self.change(block)
        factors = _factors(totals, stages)
        added = [sum(factors[family] * every[number] for family, every in totals.items()) for number in range(len(stages))]
        embedded = stages[1] - added[1]  # not stage 0: some models norm the embedding before anything is added to it
        for number in range(2, len(stages)):
            rest = stages[number] - added[number] - stages[number - 1]
            before, after = self.wiring.stages[number - 1], self.wiring.stages[number]
            _check_sum(rest, stages[number], f"{after} is not {before} plus what its blocks add")
        weights: dict[Node, Tensor] = {}
        for block, heads in self.wiring.sums.items():
            weights |= self._projection(block, heads)
            by_head = sum(self.change(head) @ weights[head].mT for head in heads)
            _check_sum(self.change(block) - by_head, self.change(block), f"{block} is not the sum of what its heads add")
        senders = ((part, block) for block in self.wiring.blocks for part in self.wiring.sums.get(block, (block,)))
        return Linear(embed, embedded, {part: factors[block.family] for part, block in senders}, weights, self._base)

    def _projection(self, block: Node, members: Sequence[Node]) -> dict[Node, Tensor]:
        """The linear map [d_model, d_head] from the output of each head to what their block adds, read from its derivative.

        Every token of the batch carries one row of it, so that it takes few passes through the block.
        """
        output, heads = (self._taken[self.graph.place(node), 0].between for node in (block, members[0]))
        width, slots = output.shape[-1], output.shape[0] * output.shape[1]
        found = []
        for start in range(0, width, slots):
            basis = torch.zeros(slots, width, dtype=output.dtype, device=output.device)
            count = min(slots, width - start)
            basis[torch.arange(count), start + torch.arange(count)] = 1
            grad = torch.autograd.grad(output, heads, basis.view_as(output), retain_graph=True)[0]
            found.append(grad.flatten(0, 1)[:count])
        whole = torch.cat(found)
        return {head: whole[:, number] for number, head in enumerate(members)}


def _check_sum(rest: Tensor, whole: Tensor, problem: str) -> None:
    """Refuse a model in which more than rounding of a whole is left over."""
    if float(rest.abs().max()) > 1e-3 * float(whole.abs().max()) + 1e-12:
        raise CircuitryError(f"{problem}, so edges over the stream are not defined; use level='node'")


def _check_embedding(graph: Graph, embed: Node) -> None:
    """Refuse a model in which something reads the embedding beside the stream: no edge from it over the stream can be cut alone."""
    beside = [node for node in graph.nx.successors(embed) if node not in graph.stream]
    if beside:
        raise CircuitryError(
            f"{beside[0]} reads the embedding beside the stream, so edges over the stream are not defined; use level='node'"
        )


def _factors(totals: Mapping[str, Sequence[Tensor]], stages: Sequence[Tensor]) -> dict[str, float]:
    """For each family of blocks, the factor by which a model multiplies what they add; 1 in most.

    ``totals`` are what the blocks of a family add to each stage, which differs from the stage before by their weighted sum.
    """
    # The first stage is left out if it can be: some models norm the embedding before anything is added to it.
    first = 2 if all(any(bool(total.any()) for total in every[2:]) for every in totals.values()) else 1
    change = (torch.stack(list(stages[first:])) - torch.stack(list(stages[first - 1 : -1]))).flatten()
    parts = torch.stack([torch.stack(list(every[first:])).flatten() for every in totals.values()])
    products, wanted = ((parts @ other).cpu().double() for other in (parts.mT, change))
    found = torch.linalg.lstsq(products, wanted, driver="gelsd").solution.tolist()
    return {family: 1.0 if abs(factor - 1) < 1e-3 else factor for family, factor in zip(totals, found, strict=True)}
