"""Cuts an experiment into batches that fit a memory bound. Cells of one example stay together, since they share two whole runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...models.packed import Ints
from ...planning.live import LiveSets
from ...planning.values import Plan
from ...prompting.prompts import Prompts
from ..executor import EXAMPLES
from .rows import Job, Runs

_BESIDE = 0.2
"""What jobs may take beside two whole runs that leave no room for them, as a fraction of these."""


@dataclass(frozen=True)
class Batch:
    """What shares one forward pass: some examples, and jobs on them (by number among these examples); ``tokens``, over all layers."""

    examples: Ints
    jobs: tuple[Job, ...]
    tokens: int


@dataclass(frozen=True)
class Size:
    """Bytes that one token takes inside the layers and after them, and what all of a batch may take."""

    inside: int
    after: int
    most: int

    def of(self, tokens: Ints) -> int:
        """Bytes that a batch takes with so many tokens in each layer [layer], the last of them after all layers."""
        return int(max(self.inside * tokens[:-1].max(initial=0), self.after * tokens[-1]))

    def fits(self, tokens: Ints) -> bool:
        """Whether such a batch stays within the bound."""
        return self.of(tokens) <= self.most


def batches(plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, size: Size) -> list[Batch]:
    """Each batch has as many examples as fit with all their cells, ``EXAMPLES`` at most.

    If a single example does not fit, its cells are spread over several batches.
    The cut depends on nothing but the plan, the prompts and the bound, so that the same experiment is always cut alike.
    """
    return [batch for batch in _cut(plan, jobs, prompts, lives, size) if batch.jobs]  # the guards are not on every example


def _cut(plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, size: Size) -> Iterator[Batch]:
    whole, of_jobs = token_counts(plan, jobs, prompts, lives)
    alone: Ints | None = None
    chosen: list[int] = []
    total = np.zeros(whole.shape[1], np.int64)
    for example in range(len(prompts)):
        more = whole[example] + of_jobs[:, example].sum(0)
        if chosen and (len(chosen) == EXAMPLES or not size.fits(total + more)):
            yield _batch(jobs, range(len(jobs)), chosen, total)
            chosen, total = [], np.zeros_like(total)
        if not chosen and not size.fits(more):
            if alone is None:  # jobs that share a beginning may come into different batches
                _, alone = token_counts(plan, jobs, prompts, lives, share_beginnings=False)
            yield from (_batch(jobs, some, [example], tokens) for some, tokens in _split(whole[example], alone[:, example], size))
            continue
        chosen.append(example)
        total = total + more
    if chosen:
        yield _batch(jobs, range(len(jobs)), chosen, total)


def _split(whole: Ints, of_jobs: Ints, size: Size) -> Iterator[tuple[list[int], Ints]]:
    """Jobs of one example in groups that fit beside its two whole runs, at least one each; and the tokens of both together [layer].

    Where these two alone take about as much as the bound or more, groups of single jobs would repeat them for next to nothing, so the jobs
    of a group may then take ``_BESIDE`` of what they take.
    """
    size = replace(size, most=max(size.most, int((1 + _BESIDE) * size.of(whole))))
    some, total = list[int](), whole
    for number, more in enumerate(of_jobs):
        if some and not size.fits(total + more):
            yield some, total
            some, total = [], whole
        some.append(number)
        total = total + more
    if some:
        yield some, total


def _batch(jobs: Sequence[Job], numbers: Sequence[int], examples: Sequence[int], tokens: Ints) -> Batch:
    batch_examples = np.array(examples, np.int64)
    batch_jobs = []
    for number in numbers:
        mine = np.flatnonzero(np.isin(batch_examples, jobs[number].examples))
        if len(mine):
            batch_jobs.append(replace(jobs[number], examples=mine))
    return Batch(batch_examples, tuple(batch_jobs), int(tokens.sum()))


def token_counts(
    plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, *, share_beginnings: bool = True
) -> tuple[Ints, Ints]:
    """Tokens in each layer and after all of them: of the two whole runs [example, layer], and of each job [job, example, layer].

    Layers that jobs share because they begin alike count once, for the first of them, if ``share_beginnings`` (``beginnings``).
    """
    runs, final = Runs(plan, jobs, prompts, lives, share_beginnings=share_beginnings), len(lives.regions.layers)
    number = {id(job): at for at, job in enumerate(jobs)}
    counts = np.zeros((len(jobs), len(prompts), final + 1), np.int64)
    for leg in runs.legs:
        for region, bits in leg.live.tokens.items():
            if not region.block and region.layer >= 0:
                counts[number[id(leg.job)], leg.examples, region.layer] += bits.bit_count()
    whole = np.repeat(2 * runs.stops[:, None], final + 1, 1)
    whole[:, runs.last + 1 :] = 0
    if runs.last == final:
        whole[:, -1] = 2 * np.maximum(1, (counts[:, :, -1] > 0).sum(0).clip(max=runs.stops))
    return whole, counts
