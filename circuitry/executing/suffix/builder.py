"""Lays out a batch: which tokens are computed, what is copied between them, and where the readings are. No torch is run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from ...architecture.families import Place
from ...architecture.terms import terms_among
from ...models.packed import Ints, Scanned, Tokens
from ...paths.positions import Position
from ...paths.values import Node, Site
from ...planning.regions import Region, Regions
from ...planning.values import SOURCE, Write
from ..copies import Copy, unit_of, units_frozen
from .layout import Layout, Read, Reading
from .rows import Job, Leg, Runs, offsets_of, positions_of


class Builder:
    """Lays out a batch. ``device`` is where indices will be used."""

    def __init__(self, runs: Runs, device: object = "cpu") -> None:
        self.runs, self.graph, self.device = runs, runs.plan.graph, device
        self.regions: Regions = runs.lives.regions
        self.length = int(runs.stops.max())
        self.final = Region(len(self.regions.layers))

    def build(self) -> Layout:
        """The whole layout."""
        tokens = self._tokens()
        layout = Layout(self.runs, self.length, tokens, self._scanned(tokens), self._batch())
        tokens[Region(-1)] = self._embedded(layout.batch)
        layout.filling = max(0, -(-len(tokens[self.final]) // self.length) - len(layout.batch))
        self.layout = layout
        for leg in self.runs.legs:
            self._add_writes(leg)
            self._add_holds(leg)
        for job in self.runs.jobs:
            layout.readings.append(self._reading(job))
        return layout

    # --- tokens ------------------------------------------------------------------------------------------------------------

    def _tokens(self) -> dict[Region, Tokens]:
        rows, positions = defaultdict[Region, list[Ints]](list), defaultdict[Region, list[Ints]](list)
        for leg in self.runs.legs:
            for region, bits in leg.live.tokens.items():
                offsets = np.array(offsets_of(bits), np.int64)
                rows[region].append(np.repeat(leg.rows, len(offsets)))
                positions[region].append((leg.low[:, None] + offsets).ravel())
        for region, (row, position) in self._whole_runs(rows, positions).items():
            rows[region].append(row)
            positions[region].append(position)
        return {region: self._sorted(np.concatenate(rows[region]), np.concatenate(positions[region])) for region in rows}

    def _sorted(self, row: Ints, position: Ints) -> Tokens:
        keys = np.unique(row * self.length + position)
        return Tokens(keys // self.length, keys % self.length, self.runs.base, self.runs.count, self.length, self.device)

    def _whole_runs(
        self, rows: Mapping[Region, list[Ints]], positions: Mapping[Region, list[Ints]]
    ) -> dict[Region, tuple[Ints, Ints]]:
        """The base and the source runs: all tokens of every layer that is needed, and after the last one those that are read."""
        count, stops = self.runs.count, self.runs.stops
        every = np.repeat(np.arange(2 * count), np.tile(stops, 2)), np.concatenate([np.arange(stop) for stop in (*stops, *stops)])
        last = self.runs.last
        first_token = np.zeros(1, np.int64), np.zeros(1, np.int64)  # goes through all layers, so that each has a token
        self.last = last
        runs = {Region(layer): every if layer <= last else first_token for layer in range(self.final.layer + 1)}
        runs |= {Region(region.layer, block): every if region.layer <= last else first_token for block, region in self._blocks()}
        if last == self.final.layer:
            read = [self._read_after(job) for job in self.runs.jobs]
            patched = [(self.runs.base[row], at) for row, at in zip(rows[self.final], positions[self.final], strict=True)]
            row, at = (np.concatenate([part[k] for part in (*read, *patched)]) for k in (0, 1))
            runs[self.final] = np.concatenate([row, row + count]), np.tile(at, 2)
        return runs

    def _blocks(self) -> Iterator[tuple[str, Region]]:
        for block, node in self.regions.blocks.items():
            yield block, self.regions.of(node)

    def _read_after(self, job: Job) -> tuple[Ints, Ints]:
        """Base rows and positions that a job reads after the last layer."""
        rows, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for step in job.cell.passes:
            for site in step.reads:
                if self.regions.of(site.node) == self.final:
                    row, at = self._spelled(site.at, job.examples)
                    rows.append(row)
                    positions.append(at)
        return np.concatenate(rows), np.concatenate(positions)

    def _spelled(self, at: Position | None, examples: Ints) -> tuple[Ints, Ints]:
        """Examples and positions of a site: one each, or all."""
        if at is not None:
            return examples, positions_of(at, self.runs.prompts)[examples]
        stops = np.minimum(self.runs.prompts.stops, self.runs.stops)[examples]
        return np.repeat(examples, stops), np.concatenate([np.arange(stop) for stop in stops])

    def _batch(self) -> Ints:
        """The rows that go through the embedding: base and source runs, and those that are written there."""
        written = [leg.rows for leg in self.runs.legs if Region(-1) in leg.live.tokens]
        return np.unique(np.concatenate([np.arange(2 * self.runs.count), *written]))

    def _embedded(self, batch: Ints) -> Tokens:
        row, position = np.repeat(batch, self.length), np.tile(np.arange(self.length), len(batch))
        return Tokens(row, position, self.runs.base, self.runs.count, self.length, self.device)

    def _scanned(self, tokens: Mapping[Region, Tokens]) -> dict[str, Scanned]:
        """For every block with a recurrent state: whole runs, and the legs that can change it."""
        scanned: dict[str, Scanned] = {}
        calls = self._calls()
        for family in self.graph.by_role("state"):
            for node in self.graph.nodes(family.name):
                region = self.regions.of(node)
                if region.block not in scanned:
                    scanned[region.block] = self._scanned_in(region, tokens[region], calls.get(region.block, set()))
        return scanned

    def _scanned_in(self, region: Region, tokens: Tokens, calls: set[int]) -> Scanned:
        if region.layer > self.last:
            return Scanned(np.array([0]), np.array([0]), np.array([1]))
        rows, start, stop = (
            [np.arange(2 * self.runs.count)],
            [np.zeros(2 * self.runs.count, np.int64)],
            [np.tile(self.runs.stops, 2)],
        )
        for leg in self.runs.legs:
            if bits := leg.live.states.get(region.block, 0):
                rows.append(leg.rows)
                start.append(leg.low + (bits & -bits).bit_length() - 1)
                end = leg.low + bits.bit_length()
                stop.append(end + (tokens.own(leg.rows, end) >= 0))  # some read a state at the next token
        every = np.concatenate(rows)
        order = np.argsort(every)
        return Scanned(
            every[order],
            np.concatenate(start)[order],
            np.concatenate(stop)[order],
            tuple(sorted(call for call in calls if call < self.length)),
        )

    def _calls(self) -> dict[str, set[int]]:
        """The positions at which states are written or read, by block."""
        positions = defaultdict[str, set[int]](set)
        for leg in self.runs.legs:
            last = leg.number == len(leg.job.cell.passes) - 1
            sites = [(write.node, write.at) for write in leg.plan.writes]
            sites += [(site.node, site.at) for site in leg.plan.reads if last]
            sites += [(node, None) for node in self._terms_held(leg)]
            for node, at in sites:
                if self.graph.place(node).position is None:
                    positions[self.regions.of(node).block] |= set(self._spelled(at, leg.examples)[1].tolist())
        return positions

    def _terms_held(self, leg: Leg) -> list[Node]:
        """Terms that the leg holds, of nodes that it computes at all."""
        frozen = self.runs.lives.frozen_by_region(leg.plan.frozen)
        return terms_among([node for region in leg.live.tokens for node in frozen.get(region, ())])

    # --- copies ------------------------------------------------------------------------------------------------------------

    def _add_writes(self, leg: Leg) -> None:
        for write in leg.plan.writes:
            place = self.graph.place(write.node)
            source = self._source(write, leg)
            if place.position is None:
                self._write_states(write, place, leg, source)
                continue
            region = self.regions.of(write.node)
            tokens = self.layout.tokens.get(region)
            if tokens is None:
                continue
            which, to = self._written(write.at, leg, tokens)
            at = tokens.position[to]
            value = write if write.made else None
            unit = np.full(len(to), unit_of(place, write.node))
            term = write.node if write.node.term else None
            self.layout.copies[place, None].append(Copy(to, tokens.of(source[which], at), at, unit, leg.number, value, term))

    def _source(self, write: Write, leg: Leg) -> Ints:
        """The rows [n] whose value is written."""
        if leg.before is not None:
            return leg.before
        return leg.examples if leg.job.nothing else leg.examples + self.runs.count

    def _written(self, at: Position | None, leg: Leg, tokens: Tokens) -> tuple[Ints, Ints]:
        """The tokens that are written: the number of the row in the leg, and the place among the packed tokens."""
        if at is None:
            return _of_rows(leg.rows, tokens)
        to = tokens.own(leg.rows, positions_of(at, self.runs.prompts)[leg.examples])
        which = np.flatnonzero(to >= 0)
        return which, to[which]

    def _write_states(self, write: Write, place: Place, leg: Leg, source: Ints) -> None:
        scanned = self.layout.scanned.get(self.regions.of(write.node).block)
        if scanned is None:
            return
        value = write if write.made else None
        example, position = self._spelled(write.at, leg.examples)
        row_of = dict(zip(leg.examples.tolist(), range(len(leg.rows)), strict=True))
        which = np.array([row_of[e] for e in example.tolist()], np.int64)
        for call in np.unique(position).tolist():
            which_here = which[position == call]
            active = _active(scanned, call, len(self.runs.base))
            to = active[leg.rows[which_here]]
            is_scanned = to >= 0
            which_here, to = which_here[is_scanned], to[is_scanned]
            source_rows = active[source[which_here]]
            source_rows = np.where(source_rows >= 0, source_rows, active[self.runs.base[source[which_here]]])
            unit = np.full(len(to), unit_of(place, write.node))
            term = write.node if write.node.term else None
            at = np.full(len(to), call)
            self.layout.copies[place, call].append(Copy(to, source_rows, at, unit, leg.number, value, term))

    def _add_holds(self, leg: Leg) -> None:
        """Hold what is frozen wherever the leg computes it at all; elsewhere it has the base run's value anyway."""
        for node in self._terms_held(leg):
            self._add_term_hold(node, leg)
        for place, units in self._frozen(leg).items():
            tokens = self.layout.tokens[self.regions.at(place)]
            _, to = _of_rows(leg.rows, tokens)
            at = tokens.position[to]
            source = tokens.own(self.runs.base[tokens.row[to]], at)
            number = len(units)
            self.layout.copies[place, None].append(
                Copy(np.repeat(to, number), np.repeat(source, number), np.repeat(at, number), np.tile(units, len(to)), leg.number)
            )

    def _add_term_hold(self, node: Node, leg: Leg) -> None:
        place = self.graph.place(node)
        if place.position is None:
            self._write_states(Write(node, None, SOURCE), place, leg, leg.examples)
            return
        tokens = self.layout.tokens[self.regions.at(place)]
        _, to = _of_rows(leg.rows, tokens)
        at, unit = tokens.position[to], np.full(len(to), unit_of(place, node))
        source = tokens.own(self.runs.base[tokens.row[to]], at)
        self.layout.copies[place, None].append(Copy(to, source, at, unit, leg.number, None, node))

    def _frozen(self, leg: Leg) -> dict[Place, Ints]:
        """Places to hold, with the heads frozen there, of the nodes that the leg computes at all."""
        frozen = self.runs.lives.frozen_by_region(leg.plan.frozen)
        nodes = (node for region in leg.live.tokens for node in frozen.get(region, ()))
        return units_frozen(self.graph, (node for node in nodes if not self._is_read_from_base(node, leg)))

    def _is_read_from_base(self, node: Node, leg: Leg) -> bool:
        """Whether a node is a state that is not computed anew, so that nothing has to hold it."""
        state = self.graph.family(node.family).frozen_through and not node.port
        return bool(state) and self.regions.of(node).block not in leg.live.states

    # --- readings ----------------------------------------------------------------------------------------------------------

    def _reading(self, job: Job) -> Reading:
        last = len(job.cell.passes) - 1
        row_of = np.full(self.runs.count, -1)
        for leg in self.runs.legs:
            if leg.job is job and leg.number == last:
                row_of[leg.examples] = leg.rows
        rows = np.concatenate([job.examples, job.examples + self.runs.count, row_of[job.examples]])
        return Reading(job, tuple(read for site in job.cell.passes[-1].reads for read in self._reads(site, job.examples, rows)))

    def _reads(self, site: Site, examples: Ints, rows: Ints) -> Iterator[Read]:
        place, region = self.graph.place(site.node), self.regions.of(site.node)
        example, position = self._spelled(site.at, examples)
        number = np.searchsorted(examples, example)
        runs = np.concatenate([number, number + len(examples), number + 2 * len(examples)])
        at = np.tile(position, 3)
        unit = None if place.unit is None else unit_of(place, site.node)
        term = site.node if site.node.term else None
        base = self.runs.base[rows[runs]] % self.runs.count  # the source runs are compared with the base ones, too
        if place.position is not None:
            tokens = self.layout.tokens[region]
            yield Read((place, None), unit, runs, tokens.of(rows[runs], at), tokens.own(base, at), term)
            return
        for call in np.unique(at).tolist():
            chosen = at == call
            active = _active(self.layout.scanned[region.block], call, len(self.runs.base))
            scanned = active[rows[runs[chosen]]]
            own = np.where(scanned >= 0, scanned, active[base[chosen]])
            yield Read((place, call), unit, runs[chosen], own, active[base[chosen]], term)


def _of_rows(rows: Ints, tokens: Tokens) -> tuple[Ints, Ints]:
    """All tokens of some rows: the number of the row, and the place among the packed tokens."""
    begin, end = tokens.ends[rows], tokens.ends[rows + 1]
    counts = end - begin
    which = np.repeat(np.arange(len(rows)), counts)
    return which, np.arange(counts.sum()) + np.repeat(begin - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)


def _active(scanned: Scanned, call: int, rows: int) -> Ints:
    """By row, its number among those that are scanned at a position, -1 for the others."""
    going = np.flatnonzero((scanned.start <= call) & (scanned.stop > call))
    numbers = np.full(rows, -1)
    numbers[scanned.rows[going]] = np.arange(len(going))
    return numbers
