"""Means of nodes over the corrupted prompts. All sites are read in the same passes, of which only sums are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..architecture.families import Place
from ..models.model import Model
from ..models.reading import own_value
from ..paths.values import Site
from ..planning.positions import absolute
from ..prompting.prompts import Prompts
from .executor import EXAMPLES, Cost
from .places import execution_order, turn
from .terms import term_values
from .trace import traced


def means(model: Model, sites: Iterable[Site], prompts: Prompts, memory: int) -> dict[Site, Tensor]:
    """The mean of each site over all corrupted prompts, in the node's own shape; [position, ...] if it names no position.

    Padding counts for nothing: the mean at a position is over the prompts that reach it, zero if none does.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> prompts, site = task.prompts(model.vocabulary), ct.parse("gate[0] @ B -> logits").sources[0]
    >>> tuple(means(model, [site], prompts, 1 << 28)[site].shape)
    (256,)
    """
    wanted = list(dict.fromkeys(sites))
    parts = [prompts.take(part) for part in _parts(model, prompts, memory)]
    sums = [_sums(model, wanted, part) for part in parts]
    return {site: _mean([part[site] for part in sums], site, prompts) for site in wanted}


def cost_of_means(model: Model, prompts: Prompts, memory: int) -> Cost:
    """What ``means`` takes, however many sites there are.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> cost_of_means(model, task.prompts(model.vocabulary), 1 << 28).batches
    1
    """
    tokens = len(prompts) * prompts.length * model.graph.sizes["layer"]
    return Cost(len(_parts(model, prompts, memory)), tokens, tokens)


def _parts(model: Model, prompts: Prompts, memory: int) -> list[slice]:
    """Examples that share a pass: as many as fit, ``EXAMPLES`` at most, and one at least."""
    size = min(EXAMPLES, max(1, memory // model.bytes_per_row(prompts.length)))
    return [slice(first, first + size) for first in range(0, len(prompts), size)]


def _mean(sums: Sequence[tuple[Tensor, torch.dtype]], site: Site, prompts: Prompts) -> Tensor:
    """The mean from the sums over all parts of the prompts, in the node's own dtype."""
    total = torch.stack([summed for summed, _ in sums]).sum(0)
    count = _mask(site, prompts).sum(0).to(total.device)
    count = count.sum() if site.at is not None else count.clamp(min=1).reshape(-1, *[1] * (total.dim() - 1))
    return (total / count).to(sums[0][1])


def _sums(model: Model, sites: Sequence[Site], prompts: Prompts) -> dict[Site, tuple[Tensor, torch.dtype]]:
    """The sum of each site over these prompts in float64, [...] or [position, ...], and its own dtype, from one pass."""
    masks = {site: _mask(site, prompts) for site in sites}
    states = _states(model, masks)
    stops = _stops(model, sites, states)
    parts: dict[Site, list[Tensor]] = {site: [] for site in sites}
    dtypes: dict[Site, torch.dtype] = {}

    def act(number: int, value: Tensor) -> tuple[Tensor | None, Tensor]:
        place, call, members = stops[number]
        for site in members:
            values = term_values(model.saes, site.node, own_value(value, place, site.node))
            mask = masks[site] if place.position is not None else masks[site][:, states[call], None]
            parts[site].append(_summed(values, mask.to(values.device), site.at is None))
            dtypes[site] = values.dtype
        return None, value.new_empty(0)

    ids = torch.from_numpy(prompts.corrupted)
    traced(model, ids, [(place, call) for place, call, _ in stops], act, states=states, keep=1)
    return {site: (torch.cat(s) if site.at is None else torch.stack(s).sum(0), dtypes[site]) for site, s in parts.items()}


def _summed(values: Tensor, mask: Tensor, by_position: bool) -> Tensor:
    """The sum of the values [example, position, ...] in ``mask`` [example, position], in float64, ``by_position`` or over all."""
    if not by_position:
        return values[mask].double().sum(0)
    return torch.where(mask.reshape(*mask.shape, *[1] * (values.dim() - 2)), values.double(), 0.0).sum(0)


def _mask(site: Site, prompts: Prompts) -> Tensor:
    """Where [example, position] a site has a value."""
    every = torch.arange(prompts.length)
    if site.at is None:
        return every < torch.from_numpy(prompts.stops)[:, None]
    return (every == torch.tensor(absolute(site.at, prompts.where))[:, None]).expand(len(prompts), -1)


def _states(model: Model, masks: Mapping[Site, Tensor]) -> tuple[int, ...]:
    """The positions at which states are read: all if a site names none."""
    positions: set[int] = set()
    for site, mask in masks.items():
        if model.graph.place(site.node).position is None:
            positions |= set(range(mask.shape[1]) if site.at is None else mask.any(0).nonzero().flatten().tolist())
    return tuple(sorted(positions))


def _stops(model: Model, sites: Sequence[Site], states: tuple[int, ...]) -> list[tuple[Place, int, tuple[Site, ...]]]:
    """Each call of each place, with the sites at that place, in the order of execution."""
    by_place: dict[Place, list[Site]] = {}
    for site in sites:
        by_place.setdefault(model.graph.place(site.node), []).append(site)
    order = execution_order(model)
    calls = {place: len(states) if place.position is None else 1 for place in by_place}
    stops = [(place, call, tuple(members)) for place, members in by_place.items() for call in range(calls[place])]
    return sorted(stops, key=lambda stop: turn(stop[0], stop[1], order))
