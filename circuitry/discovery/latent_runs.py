"""Runs of a model in which some terms of its nodes are the run's own, and all other terms of these nodes are those of the corrupted run.

So each node with an autoencoder is x' + Σ (f_i - f'_i) d_i over the latents kept, and + (error - error') if its error is kept, where the
corrupted run has a prime: what is kept carries what the circuit computes, not what the model does (Marks et al. 2024, arXiv:2403.19647).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..architecture.families import Place
from ..architecture.terms import single_latents
from ..autoencoders.sae import SAE
from ..executing.metrics import evaluate
from ..models.reading import own_value
from ..paths.values import Node
from ..prompting.prompts import Prompts
from .passes import logits_at_end
from .question import Question

Bools = NDArray[np.bool_]
_AT_ONCE = 1 << 25
"""Most features of all tokens together that are in memory at once: 128 MiB in float32."""


class LatentRuns:
    """Runs of circuits of latents and errors on one batch of prompts; ``clean`` and ``corrupted`` [example] are the metric of the prompts.

    >>> from dataclasses import replace
    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.discovery.latents import listed
    >>> from circuitry.discovery.search import asked
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
    >>> question = asked(model, ct.task("induction", distance=8, examples=2), level="latent")
    >>> runs = LatentRuns(replace(question, terms=listed(question)), question.prompts)
    >>> everything = np.ones((len(runs.question.items), 2, question.prompts.length), bool)
    >>> whole, nothing = runs.measure([everything, ~everything])
    >>> bool(np.allclose(whole, runs.clean, atol=1e-3)), bool(np.allclose(nothing, runs.corrupted, atol=1e-3))
    (True, True)
    """

    def __init__(self, question: Question, prompts: Prompts) -> None:
        self.question, self.prompts, self.count = question, prompts, len(prompts)
        self.saes = {host: sae for host, sae in question.model.saes.items() if host in {term.host for term in question.terms}}
        self._numbers = {host: [n for n, term in enumerate(question.terms) if term.host == host] for host in self.saes}
        corrupted, clean = self._run((), extra=1)
        self._base = clean
        self.clean, self.corrupted = self._metric(clean), self._metric(corrupted)

    def measure(self, circuits: Iterable[Bools]) -> Iterator[NDArray[np.float64]]:
        """The metric [example] of the run of each circuit [term, example, pos], as many in a batch as memory allows."""
        waiting: list[Bools] = []
        most = max(1, self.question.memory // (self.question.model.bytes_per_row(self.prompts.length) * self.count) - 1)
        for circuit in circuits:
            waiting.append(circuit)
            if len(waiting) == most:
                yield from map(self._metric, self._run(waiting)[1:])
                waiting = []
        if waiting:
            yield from map(self._metric, self._run(waiting)[1:])

    def _run(self, circuits: Sequence[Bools], extra: int = 0) -> tuple[Tensor, ...]:
        """The logits at END [example, vocabulary] of the corrupted run, of each circuit, and of so many clean runs."""
        graph = self.question.wiring.graph
        at: dict[Place, list[Node]] = {}
        for host in self.saes:
            at.setdefault(graph.place(host), []).append(host)

        def act(place: Place, call: int, value: Tensor) -> Tensor:
            value = value.clone()
            for host in at[place]:
                own = own_value(value, place, host)
                tokens = slice(call, call + 1) if place.position is None else slice(None)
                for number, kept in enumerate(circuits, 1):
                    now = own[number * self.count : (number + 1) * self.count]
                    now[:] = self._mixed(host, now, own[: self.count], kept[self._numbers[host]][..., tokens])
            return value

        ids = np.concatenate([self.prompts.corrupted, *[self.prompts.clean] * (len(circuits) + extra)])
        logits = logits_at_end(self.question.model, self.prompts, ids, self.saes, act)
        return torch.split(logits, self.count)

    def _mixed(self, host: Node, now: Tensor, corrupted: Tensor, kept: Bools) -> Tensor:
        """A node's value [example, pos, ...] with the terms of this run that are kept [term, example, pos]."""
        sae, terms = self.saes[host], [self.question.terms[number] for number in self._numbers[host]]
        mine, theirs = (value.reshape(*value.shape[:2], -1) for value in (now, corrupted))
        mixed = theirs.clone()
        tokens = torch.from_numpy(np.argwhere(kept.any(0))).to(now.device)
        for example, pos in (part.unbind(1) for part in torch.split(tokens, max(1, _AT_ONCE // sae.config.features))):
            mask = torch.from_numpy(kept[:, example.cpu().numpy(), pos.cpu().numpy()]).to(now.device)
            change = _change(sae, mine[example, pos], theirs[example, pos], terms, mask)
            mixed[example, pos] += change.to(mixed.dtype)
        return mixed.view_as(corrupted)

    def _metric(self, logits: Tensor) -> NDArray[np.float64]:
        answer, foil = (torch.from_numpy(tokens).to(logits.device) for tokens in (self.prompts.answer, self.prompts.foil))
        return evaluate(self.question.metric, logits, self._base, answer, foil).double().cpu().numpy()


def _change(sae: SAE, now: Tensor, corrupted: Tensor, terms: Sequence[Node], kept: Tensor) -> Tensor:
    """What the terms that are kept [term, token] add to corrupted values [token, D]."""
    features = sae.encode(now) - sae.encode(corrupted)
    rows, numbers = single_latents(terms)
    chosen = (features[:, numbers] * kept[rows].mT) @ sae.W_dec[numbers]
    error = kept[[row for row, node in enumerate(terms) if node == node.host.error]].any(0)
    return chosen + (now - corrupted - features @ sae.W_dec) * error[:, None]
