"""IOI in a Transformer: from the heads that write the name at END back to the tokens (Wang et al. 2023), with scores.

A model need not have every role. Name movers raise IO's logit at END and S suppressors lower S's. S-inhibition heads act on
the queries of both. Duplicate-token and induction heads act on the S-inhibition heads' values at S2, previous-token heads on
the induction heads' keys at S1+1. If the movers copy from a token other than the name, the suite also looks for the heads that
wrote it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from ..drawing.circuit import EVERYWHERE, Circuit
from ..evidence.scores import Scores, score
from ..evidence.scores_figure import draw
from ..results.table import PatchingTable
from ..results.writing import count
from ..thresholds import KEY_EFFECT
from .heads import Head
from .ioi_roles import (
    AT_END,
    DIRECT,
    DUPLICATE,
    HELPER,
    INDUCTION,
    INHIBITION,
    MOVER,
    NEGATIVE,
    OTHER,
    POSITIONS,
    PREVIOUS,
    STAGES,
    SUPPRESSOR,
    TABLES,
    WRITER,
    Found,
    Stage,
)
from .keys import keys, sure
from .possible import patch_possible, possible_set
from .result import Picture, SuiteResult, Summary
from .senders import Receivers, jointly, read_at, read_by, reads, senders, site, strong_senders
from .stages import Drawing
from .study import Study


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit, its scores and the summary."""
    by_role, effects = Found(), _direct(study)
    by_role.roles = {
        role: [(head, "END", float(effects[head])) for head in heads] for role, heads in _roles_at_end(study).items()
    }
    movers = by_role.heads(*DIRECT)
    if not movers:
        return _nothing(study, study.tables["heads_to_logits"])
    _movers(study, movers, by_role)
    _inhibition(study, movers, by_role)
    scores = _score(study, by_role)
    pictures = {"scores": Picture("Is it the circuit?", scores.text(), draw(scores))}
    joint_effects = _joint_effects(study, by_role)
    return SuiteResult(
        study.tables, _circuit(study, by_role, joint_effects), _summary(study, by_role, scores, joint_effects[AT_END]), pictures
    )


def _direct(study: Study) -> pd.Series:
    """Measure every head at END on the logit difference and on each name's logit; returns normalized effects on the difference."""
    head, title = study.name("head"), "Heads to the logits at END"
    path, main = f"{head}[{{layer}},{{head}}] @ END -> logits freezing {study.carriers}", study.options["metric"]
    table = study.patch(title, path, metric=list(dict.fromkeys([main, "logit", "foil_logit"])))
    note = "A head whose patch lowers the difference helps to answer; one whose patch raises it works against."
    direct = table.select("metric", main)
    study.keep("heads_to_logits", direct, note)
    for metric, name, words in (("logit", "IO", "A name mover raises IO."), ("foil_logit", "S", "An S suppressor lowers S.")):
        alone = replace(table.select("metric", metric), unit=f"change of the logit of {name}")
        study.keep(f"heads_to_{name}", alone.titled(f"{title}: {name} alone"), words)
    return direct.normalized()


def _roles_at_end(study: Study) -> dict[str, list[Head]]:
    """Heads by role: name movers write IO, suppressors lower S, the others only help or hurt the difference.

    A mover passes the thresholds on IO's logit and has at least KEY_EFFECT of the difference. On the difference q is not asked
    again: its noise contains that of S's logit too.
    """
    direct = study.tables["heads_to_logits"]
    effects = direct.normalized()
    to_s, total = study.tables["heads_to_S"], abs((direct.frame["source"] - direct.frame["base"]).mean())
    movers = [head for head in keys(study.tables["heads_to_IO"]) if effects[head] >= KEY_EFFECT]
    lowers = (to_s.mean() >= KEY_EFFECT * total) & sure(to_s)
    helping, hurting = keys(direct), keys(direct, negative=True)
    return {
        MOVER: movers,
        SUPPRESSOR: [head for head in helping if head not in movers and lowers[head]],
        HELPER: [head for head in helping if head not in movers and not lowers[head]],
        NEGATIVE: [head for head in hurting if head not in movers],
    }


def _movers(study: Study, movers: list[Head], by_role: Found) -> None:
    """Which port the movers depend on, which token they copy from, and which heads wrote it there."""
    _mover_ports(study, movers)
    read = reads(study, "Where the heads that write the answer copy from", movers, "v", POSITIONS)
    if read is not None:
        study.keep("movers_read", read)
    elsewhere = [p for p in read_at(read) if p != "IO"]
    receivers = Receivers(movers if elsewhere else [], "v", "")
    table = senders(study, "Earlier heads to the answering heads' v, at every position", receivers)
    if table is not None:
        note = "The movers copy from tokens other than the name itself, so an earlier head must have put it there."
        by_role.roles[WRITER] = strong_senders(study.keep("senders_v", table, note))


def _mover_ports(study: Study, movers: list[Head]) -> None:
    """All movers together, by port. A query of layer 0 sees only END, where the prompts do not differ, so it is left out."""

    def path(port: str, heads: list[Head]) -> str:
        return f"{site(study, heads, port)} -> logits freezing {study.carriers}"

    paths = {port: possible_set(study, partial(path, port), movers) or path(port, movers) for port in "qkv"}
    table = patch_possible(study, "What the heads that write the answer need: q, k or v", "port", paths)
    if table is not None:
        note = "All heads that write the answer, together. Queries say where to look, values what is copied."
        study.keep("mover_ports", table, note)


def _inhibition(study: Study, movers: list[Head], by_role: Found) -> None:
    """S-inhibition heads, the heads that write their values at S2, and what those look for."""
    table = senders(study, "Earlier heads to the answering heads' q at END", Receivers(movers, "q", "END"), ["END"])
    if table is None:
        return
    by_role.roles[INHIBITION] = strong_senders(
        study.keep("senders_q", table, "S-inhibition heads tell the movers where not to look.")
    )
    inhibiting = Receivers(by_role.heads(INHIBITION), "v", "S2")
    table = senders(study, "Earlier heads to the S-inhibition heads' v at S2", inhibiting, ["S2"])
    if table is None:
        return
    at_s2 = strong_senders(study.keep("senders_inhibition_v", table, "Duplicate-token and induction heads notice S at S2."))
    if not at_s2:
        return
    title = "Where the heads that notice S match it (k)"
    matches = reads(study, title, [head for head, _, _ in at_s2], "k", ["IO", "IO+1", "S1", "S1+1"], inhibiting)
    if matches is None:
        by_role.roles[OTHER] = at_s2
        return
    matched = study.keep("noticing_read", matches, "A key at S1 makes a duplicate-token head, a key at S1+1 an induction head.")
    where = dict(reversed(keys(matched, most=len(matched.mean()))))  # dict() keeps the last, so each head's strongest
    for head, at, effect in at_s2:
        position = where.get(f"{head[0]},{head[1]}", "")
        by_role.roles.setdefault({"S1": DUPLICATE, "S1+1": INDUCTION}.get(position, OTHER), []).append((head, at, effect))
    _previous(study, by_role)


def _previous(study: Study, by_role: Found) -> None:
    induction = Receivers(by_role.heads(INDUCTION), "k", "S1+1", acting="S2")
    table = senders(study, "Earlier heads to the induction heads' k at S1+1", induction, ["S1+1"])
    if table is not None:
        by_role.roles[PREVIOUS] = strong_senders(study.keep("senders_k", table, "Previous-token heads write S one token on."))


def _score(study: Study, by_role: Found) -> Scores:
    """Faithfulness, completeness and minimality of all heads found; a head with several roles counts in its first."""
    study.say("Faithfulness, completeness and minimality, against random circuits")
    named = {role: [site(study, [head]) for head in heads] for role, heads in by_role.once().items()}
    scores = score(study.model, study.task, named, **study.plain_options)
    study.keep("scores", scores.table, scores.text())
    return scores


def _joint_effects(study: Study, by_role: Found) -> dict[str, float]:
    """The normalized effect of all heads at END together, and of the port of each stage, by title; 0 where none is possible."""
    ends = site(study, by_role.heads(*DIRECT, NEGATIVE), position="END")
    paths = {AT_END: f"{ends} -> logits freezing {study.carriers}"}
    for stage in STAGES:
        if by_role.of(*stage.senders):
            receivers = by_role.of(*stage.receivers)
            heads, acting = [head for head, _, _ in receivers], receivers[0][1]
            paths[stage.title] = jointly(study, Receivers(heads, stage.port, stage.position, acting))
    return dict.fromkeys(paths, 0.0) | study.normalized_effects({title: path for title, path in paths.items() if path})


def _summary(study: Study, by_role: Found, scores: Scores, joint: float) -> Summary:
    ends = by_role.heads(*DIRECT, NEGATIVE)
    components = [
        study.component(site(study, [head]), role, *_cell(study, role, head, at), at)
        for role, heads in by_role.roles.items()
        for head, at, _ in heads
    ]
    missing = [r for r in (MOVER, INHIBITION, DUPLICATE, INDUCTION, PREVIOUS) if not by_role.roles.get(r)]
    notes = [
        f"each head of a role, patched alone along that role's path, has {study.rule()}; a name mover also on IO's own logit, "
        "for which q is taken (normalized effects here are of IO - S)",
        *study.caveats(study.tables["heads_to_logits"]),
    ]
    notes += [f"not found: {', '.join(missing)}"] if missing else []
    notes.append("scores take a head out at every position; a normalized effect below 0 works against the answer")
    taken = study.offsets("IO", corruption="IO")
    verdict = "\n".join([scores.text(), *([taken.text()] if taken else [])])
    together = f"the {count(len(ends), 'head')} at END"
    return study.summary(components, notes, explained=joint, together=together, taken=taken, verdict=verdict)


def _cell(study: Study, role: str, head: Head, at: str) -> tuple[str, tuple[Any, ...]]:
    """The table in which a head of this role was found, and its cell there."""
    name = TABLES.get(role, "heads_to_logits")
    return name, (*head, at) if "position" in study.tables[name].axes else head


def _circuit(study: Study, by_role: Found, joint_effects: Mapping[str, float]) -> Circuit:
    """The chain of roles, with a hub where several heads share a port."""
    family, drawing = study.name("head"), Drawing()
    for role in (*DIRECT, NEGATIVE):
        for head, at, effect in by_role.roles.get(role, []):
            drawing.edge(drawing.node(f"{family}[{head[0]},{head[1]}] @ {at}", at, head[0], effect, "head"), "logits", effect)
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.3, 1.0, "logits")
    for stage in STAGES:
        if by_role.of(*stage.senders):
            _stage(study, drawing, stage, by_role, joint_effects[stage.title])
    _tokens(study, drawing, by_role)
    return drawing.circuit(f"IOI circuit of {study.model.name}", (*POSITIONS[:-1], EVERYWHERE, POSITIONS[-1]))


def _stage(study: Study, drawing: Drawing, stage: Stage, by_role: Found, joint: float) -> None:
    """One hub: the receivers' port and its senders. Without a position in the stage, senders were patched at every token, and stand there."""
    family, receivers, at = study.name("head"), by_role.of(*stage.receivers), stage.position or EVERYWHERE
    ends = {f"{family}[{a},{b}] @ {position}": float("nan") for (a, b), position, _ in receivers}
    hub = drawing.hub(stage.title, at, joint, ends, [head[0] for head, _, _ in receivers])
    drawing.senders(family, [(head, at, effect) for head, _, effect in by_role.of(*stage.senders)], hub)


def _tokens(study: Study, drawing: Drawing, by_role: Found) -> None:
    """The tokens that movers and noticing heads read themselves."""
    family = study.name("head")
    for name, roles, port in (("movers_read", DIRECT, "v"), ("noticing_read", (DUPLICATE, INDUCTION), "k")):
        for (a, b), at, _ in by_role.of(*roles):
            row = read_by(study.tables.get(name), (a, b))
            for position in ("IO", "S1", "S2"):
                if row is not None and row.get(position, math.nan) >= KEY_EFFECT:
                    drawing.token(position, f"{family}[{a},{b}] @ {at}", float(row[position]), port)


def _nothing(study: Study, table: PatchingTable) -> SuiteResult:
    summary = study.nothing("head at END", "IOI", table)
    return SuiteResult(study.tables, Drawing().circuit(f"IOI in {study.model.name}", tuple(POSITIONS)), summary)
