"""Latents and errors of attached autoencoders as what is ranked: sparse feature circuits (Marks et al. 2024, arXiv:2403.19647).

A node's value is x = Σ f_i d_i + b + error. Its attribution is its change times the gradient g, so it is the sum of (Δf_i)(d_i·g)
over its latents and of (Δerror)·g. Listed are, of each node, the latents that change, then all its latents together, then its error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..architecture.terms import single_latents
from ..autoencoders.sae import SAE
from ..errors import CircuitryError
from ..models.attached import changing
from ..models.reading import hooked
from ..paths.parse import parse_node
from ..paths.values import Node
from .gradient import Gradients
from .positions import ALL
from .question import Question
from .steps import Steps
from .wiring import Wiring

MOST = 1000
"""How many latents of each node are ranked at most, if nobody says."""


def check_attached(saes: dict[Node, SAE], wiring: Wiring) -> None:
    """Refuse a model without autoencoders, and one on a node that has no gradient of its own. Raises CircuitryError.

    >>> import circuitry as ct
    >>> check_attached({}, Wiring(ct.graph("mamba")))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: no node has an autoencoder, and so no latents; attach some first: model.attach(saes)
    """
    if not saes:
        raise CircuitryError("no node has an autoencoder, and so no latents; attach some first: model.attach(saes)")
    for host in saes:
        if host not in wiring.nodes and host not in wiring.stages:
            raise CircuitryError(
                f"latents of {host} cannot be ranked: discovery takes no gradient there; use model.detach({str(host)!r})"
            )


def listed(question: Question, most: int = MOST) -> tuple[Node, ...]:
    """The terms of every node with an autoencoder: its latents that change in some example, those with the largest change first and at
    most so many; all its latents together; its error.

    A latent's change is |Δf| times the norm of its direction, added up over tokens.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.discovery.search import asked
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
    >>> question = asked(model, ct.task("induction", distance=8, examples=4), level="latent")
    >>> [str(node) for node in listed(question, most=0)], len(listed(question, most=5))
    (['resid[2].latent', 'resid[2].error'], 7)
    """
    terms: list[Node] = []
    for host, size in _sizes(question).items():
        order = size.argsort(descending=True, stable=True)[:most]
        terms += [host.latent[number] for number in order.tolist() if size[number] > 0]
        terms += [host.latent, host.error]
    return tuple(terms)


def _sizes(question: Question) -> dict[Node, Tensor]:
    """By node, how much each latent [F] changes what its node is."""
    model, count = question.model, len(question.prompts)
    places = {host: model.graph.place(host) for host in model.saes}
    sizes = {host: torch.zeros(sae.config.features) for host, sae in model.saes.items()}
    for examples, prompts in question.quiet().batches(1, "latents"):
        used = torch.from_numpy(question.labels.take(examples).mask.any(1))
        ends = [hooked(model.hf, model.mixers, places, torch.from_numpy(ids)) for ids in (prompts.clean, prompts.corrupted)]
        for host, sae in model.saes.items():
            change, _ = changing(sae, ends[0][host], ends[1][host], used)
            sizes[host] += change * sae.W_dec.norm(dim=1).cpu() * (len(examples) / count)
    return sizes


def about_latents(ranked: Question, confirming: Question, most: int, steps: Steps) -> tuple[Question, Question]:
    """Both questions about the terms that are listed on the prompts to rank on; these are found in one step.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.discovery.search import asked
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
    >>> question = asked(model, ct.task("induction", distance=8, examples=4), level="latent")
    >>> [len(each.items) for each in about_latents(question, question.part(np.array([0])), 5, Steps())]
    [7, 7]
    """
    found = steps.arrays("latents", lambda: {"terms": np.array([str(term) for term in listed(ranked, most)])})
    terms = tuple(parse_node(str(text)) for text in found["terms"])
    about = replace(ranked, terms=terms)
    return about, about if confirming is ranked else replace(confirming, terms=terms)


def by_term(passed: Gradients, sae: SAE, terms: Sequence[Node]) -> Tensor:
    """The attributions of terms of one node [term, example, pos].

    Features are computed for one example at a time, so that memory does not hold all latents of all prompts.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.discovery.rows import legendre
    >>> from circuitry.discovery.schemes import OfInput
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> metric, prompts = ct.planning.METRICS["logit_difference"], task.prompts(model.vocabulary)
    >>> passed, node = Gradients(model, Wiring(model.graph), prompts, metric, OfInput(legendre(1))), model.graph.node("resid[2]")
    >>> latents, error = by_term(passed, SAE(SAEConfig(128, 256)), [node.latent, node.error])
    >>> torch.allclose(latents + error, passed.of(node), atol=1e-4)
    True
    """
    host = terms[0].host
    tensors = (*passed.values(host), passed.gradient(host))
    clean, corrupted, grad = (value.detach().reshape(*value.shape[:2], -1) for value in tensors)
    columns = [_attributions(sae, *each, terms) for each in zip(clean, corrupted, grad, strict=True)]
    return torch.stack(columns, 1)


def _attributions(sae: SAE, clean: Tensor, corrupted: Tensor, grad: Tensor, terms: Sequence[Node]) -> Tensor:
    """The same [term, pos] of one example, from values and gradients [pos, D]."""
    grad = grad.to(sae.W_dec.dtype)
    change = sae.encode(corrupted) - sae.encode(clean)
    together = ((change @ sae.W_dec) * grad).sum(-1)
    whole = ((corrupted - clean) * grad).sum(-1)
    found = torch.empty(len(terms), len(grad), dtype=grad.dtype, device=grad.device)
    rows, numbers = single_latents(terms)
    found[rows] = (change[:, numbers] * (grad @ sae.W_dec[numbers].mT)).mT
    for row in set(range(len(terms))) - set(rows):
        found[row] = whole - together if terms[row] == terms[row].host.error else together
    return found


def shares(question: Question, mean: NDArray[np.float64]) -> pd.DataFrame:
    """How each node's attribution divides into latents and error, from mean attributions [item, label]; see ``Discovery.shares``.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
    >>> found = ct.discover(model, ct.task("induction", distance=4, examples=8), features=True, verify=0)
    >>> shares(found.question, found.mean)[["node", "position"]].iloc[0].tolist()
    ['resid[2]', 'all']
    """
    rows = []
    for host in dict.fromkeys(term.host for term in question.terms):
        at = {term.term: number for number, term in enumerate(question.terms) if term.host == host}
        latents, error = mean[at[host.latent.term]], mean[at[host.error.term]]
        ranked = sum(mean[number] for term, number in at.items() if term and term.number is not None)
        by_label = np.stack([latents, np.broadcast_to(ranked, latents.shape), error])
        columns = {ALL: by_label.sum(1), **dict(zip(question.labels.names, by_label.T, strict=True))}
        rows += [_row(host, position, *values) for position, values in columns.items()]
    return pd.DataFrame(rows)


def _row(host: Node, position: str, latents: float, ranked: float, error: float) -> dict[str, object]:
    whole = latents + error
    return {
        "node": str(host), "position": position, "attribution": whole, "latents": latents, "ranked": ranked, "error": error,
        "error_share": error / whole if whole else float("nan"),
    }  # fmt: skip


def in_words(shares: pd.DataFrame) -> list[str]:
    """The shares of each node over all positions, a sentence for each.

    >>> in_words(pd.DataFrame([_row(Node("resid", (2,)), "all", -6.0, -5.0, -2.0)]))
    ['resid[2]: attribution -8: 75 % in latents (62 % in those ranked), 25 % in the error']
    """
    return [
        f"{row['node']}: attribution {row['attribution']:.3g}: {_share('latents', row)} in latents "
        f"({_share('ranked', row)} in those ranked), {_share('error', row)} in the error"
        for row in shares[shares["position"] == ALL].to_dict("records")
    ]


def _share(part: str, row: Mapping[Any, Any]) -> str:
    return f"{100 * row[part] / row['attribution']:z.0f} %" if row["attribution"] else "nothing"
