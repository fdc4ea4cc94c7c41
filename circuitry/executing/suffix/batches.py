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
    """Bytes that one token takes inside the layers and after them, and one run's recurrent states; and what all of a batch may take."""

    inside: int
    after: int
    state: int
    most: int

    def of(self, counts: Ints) -> int:
        """Bytes that a batch takes with these ``counts``."""
        tokens, states = counts
        return int(max((self.inside * tokens + self.state * states)[:-1].max(initial=0), self.after * tokens[-1]))

    def fits(self, counts: Ints) -> bool:
        """Whether such a batch stays within the bound."""
        return self.of(counts) <= self.most


def batches(plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, size: Size) -> list[Batch]:
    """Each batch has as many examples as fit with all their cells, ``EXAMPLES`` at most.

    If a single example does not fit, its cells are spread over several batches.
    The cut depends on nothing but the plan, the prompts and the bound, so that the same experiment is always cut alike.
    """
    return [batch for batch in _cut(plan, jobs, prompts, lives, size) if batch.jobs]  # the guards are not on every example


def _cut(plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, size: Size) -> Iterator[Batch]:
    whole, of_jobs = counts(plan, jobs, prompts, lives)
    alone: Ints | None = None
    chosen: list[int] = []
    total = np.zeros_like(whole[0])
    for example in range(len(prompts)):
        more = whole[example] + of_jobs[:, example].sum(0)
        if chosen and (len(chosen) == EXAMPLES or not size.fits(total + more)):
            yield _batch(jobs, range(len(jobs)), chosen, total)
            chosen, total = [], np.zeros_like(total)
        if not chosen and not size.fits(more):
            if alone is None:  # jobs that share a beginning may come into different batches
                _, alone = counts(plan, jobs, prompts, lives, share_beginnings=False)
            yield from (_batch(jobs, some, [example], total) for some, total in _split(whole[example], alone[:, example], size))
            continue
        chosen.append(example)
        total = total + more
    if chosen:
        yield _batch(jobs, range(len(jobs)), chosen, total)


def _split(whole: Ints, of_jobs: Ints, size: Size) -> Iterator[tuple[list[int], Ints]]:
    """Jobs of one example in groups that fit beside its two whole runs, at least one each; and the counts of both together.

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


def _batch(jobs: Sequence[Job], numbers: Sequence[int], examples: Sequence[int], total: Ints) -> Batch:
    batch_examples = np.array(examples, np.int64)
    batch_jobs = []
    for number in numbers:
        mine = np.flatnonzero(np.isin(batch_examples, jobs[number].examples))
        if len(mine):
            batch_jobs.append(replace(jobs[number], examples=mine))
    return Batch(batch_examples, tuple(batch_jobs), int(total[0].sum()))


def counts(
    plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, *, share_beginnings: bool = True
) -> tuple[Ints, Ints]:
    """Of the two whole runs [example, 2, layer] and of each job [job, example, 2, layer]: the tokens in each layer, and the runs that
    compute a recurrent state there. The last "layer" is what comes after all of them.

    Layers that jobs share because they begin alike count once, for the first of them, if ``share_beginnings`` (``beginnings``).
    """
    runs, final = Runs(plan, jobs, prompts, lives, share_beginnings=share_beginnings), len(lives.regions.layers)
    number = {id(job): at for at, job in enumerate(jobs)}
    patched = np.zeros((len(jobs), len(prompts), 2, final + 1), np.int64)
    for leg in runs.legs:
        mine = patched[number[id(leg.job)]]
        for region, bits in leg.live.tokens.items():
            if not region.block and region.layer >= 0:
                mine[leg.examples, 0, region.layer] += bits.bit_count()
        for block in leg.live.states:
            mine[leg.examples, 1, lives.regions.of(lives.regions.blocks[block]).layer] += 1
    whole = np.full((len(prompts), 2, final + 1), 2)
    whole[:, 0] *= runs.stops[:, None]
    whole[..., runs.last + 1 :] = 0
    if runs.last == final:
        whole[:, 0, -1] = 2 * np.maximum(1, (patched[:, :, 0, -1] > 0).sum(0).clip(max=runs.stops))
    return whole, patched
