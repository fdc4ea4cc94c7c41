"""IOI in a state-space model: where each layer writes the names (the paper's Figure 13), and which states bring them to END."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..drawing.circuit import Circuit
from ..evidence.offsets_result import Offsets
from ..evidence.scores import Scores, score
from ..evidence.scores_figure import draw
from ..evidence.write_profile import position_name
from ..results.split_cells import split_cells
from ..results.writing import count
from .keys import keys
from .result import Component, Picture, SuiteResult, Summary
from .stages import Drawing
from .study import Study

TOKENS = {"IO": 4, "S1": 4, "S2": 2}
"""Names whose writing is looked for, and how many tokens after each: few words stand between S2 and the end."""
READING = "what writes a name has its share of what a corruption of that name alone changes"
AROUND = ["IO", "IO+1", "IO+2", "IO+3", "S1", "S1+1", "S2", "S2+1", "S2+2", "END-1", "END"]


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit, its scores and the summary."""
    state, write = study.name("state"), study.name("write_input")
    pictures = {
        "figure13": _figure13(
            study, f"{write}[{{layer}}] @ {{position}} -> logits freezing {study.carriers} except {state}[{{layer}}]"
        )
    }
    path = f"{state}[{{layer}}] @ {{position}} -> logits freezing {study.carriers}"
    end = study.last()
    title, note = "State of every layer, by position", f"At {end} a state has everything that the answer can read."
    states = study.keep("state_by_position", study.patch(title, path, position=AROUND), note)
    last = states.select("position", end)
    layers, effects = keys(last), last.normalized()
    if not layers:
        return _nothing(study, pictures, float(effects.max()))
    taken = {token: study.offsets(token, reach, corruption=token) for token, reach in TOKENS.items()}
    for token, offsets in taken.items():
        if offsets:
            table = next(iter(offsets.tables.values())).titled(f"Where {token} is written, by layer ([{token}'])")
            study.keep(f"writes_{token}", table, offsets.text())
    scores = score(study.model, study.task, {"state": [f"{state}[{n}]" for n in sorted(layers)]}, **study.plain_options)
    study.keep("scores", scores.table, scores.text())
    pictures["scores"] = Picture("Is it the circuit?", scores.text(), draw(scores))
    components = [study.component(f"{state}[{n}]", "state", "state_by_position", (n, end), _written(taken, n)) for n in layers]
    return SuiteResult(study.tables, _circuit(study, components, taken), _summary(study, components, taken, scores), pictures)


def _figure13(study: Study, path: str) -> Picture:
    """One wording, so that tokens can stand on the axis; the change of IO's logit and of S's, at every position."""
    fixed = {"template": 0, "order": "ABBA", "corruption": "all"}
    prompts = study.task.but(**fixed).prompts(study.model.vocabulary)
    ends = prompts.where["END"]
    if len(set(ends.tolist())) > 1:  # places or objects of several tokens: the axis would mean something else in each example
        study.say("prompts of one wording differ in length, so tokens on the axis are those of the first")
    positions = [str(n) for n in range(int(ends.min()) + 1)]
    title = "Where each layer writes the names (paper Figure 13)"
    made = study.patch(title, path, task=fixed, metric=["logit", "foil_logit"], position=positions)
    names = {"logit": "IO", "foil_logit": "S"}
    random = None if made.random is None else made.random.replace({"metric": names})
    table = replace(made, frame=made.frame.replace({"metric": names}), random=random, unit="change of the logit of IO or S")
    there = table.select("metric", "IO").pivot().columns  # a token before the first name is the same in both prompts
    labels = [_token(study, prompts.clean[0], prompts.where, int(n)) for n in there]
    caption = "Change of the logit of IO (left half of a cell) and of S (right half) when the scan input of a layer is patched at one token; all other states held."
    study.keep("figure13", table, f"{caption} Tokens: {' '.join(labels)}")
    return Picture(title, caption, split_cells(table, "metric", labels))


def _token(study: Study, ids: NDArray[np.int64], where: dict[str, NDArray[np.int64]], position: int) -> str:
    """What stands at a position: the role of a name, or the token itself."""
    roles = [name for name, at in where.items() if name != "END" and int(at[0]) == position]
    return roles[0] if roles else study.model.vocabulary.decode(int(ids[position])).strip() or "_"


def _written(taken: dict[str, Offsets | None], layer: int) -> str:
    """Where a layer writes the names, as far as that was found."""
    found = []
    for token, offsets in taken.items():
        for verdict in offsets.verdicts if offsets else ():
            if verdict.layer == layer:
                found += [position_name(token, n) for n in verdict.at]
    return ", ".join(found) or "no single place"


def _summary(study: Study, components: list[Component], taken: dict[str, Offsets | None], scores: Scores) -> Summary:
    end = study.last()
    sites = ", ".join(f"{one.node} @ {end}" for one in components)
    joint = study.normalized_effect("All key states together", f"({sites}) -> logits freezing {study.carriers}")
    notes = [f"states alone have, patched at {end}, {study.rule()}", READING, *study.caveats(study.tables["state_by_position"])]
    verdict = "\n".join([*(f"{token}: {o.text()}" for token, o in taken.items() if o), scores.text()])
    together = f"the {count(len(components), 'state')}"
    components = [*components, *_writers(study, components, taken)]
    return study.summary(components, notes, explained=joint, together=together, taken=taken["IO"], verdict=verdict)


def _writers(study: Study, components: list[Component], taken: dict[str, Offsets | None]) -> list[Component]:
    """What writes the names into the states that carry them, of what that name's corruption changes."""
    write, layers = study.name("write_input"), [one.layer for one in components]
    found = []
    for token, offsets in taken.items():
        for verdict in offsets.verdicts if offsets else ():
            at = [position_name(token, n) for n in verdict.at] if verdict.layer in layers else []
            role, table = f"writes {token} into the state", f"writes_{token}"
            found += [study.component(f"{write}[{verdict.layer}]", role, table, (verdict.layer, p), p) for p in at]
    return found


def _circuit(study: Study, components: list[Component], taken: dict[str, Offsets | None]) -> Circuit:
    """For every key layer: the names, where the layer writes each, its state at END, and the answer."""
    write, drawing, main = study.name("write_input"), Drawing(), study.tables["state_by_position"].frame
    whole = float((main["source"] - main["base"]).mean())
    for one in components:
        layer = one.layer
        state = drawing.node(f"{one.node} @ {study.last()}", study.last(), layer + 0.35, one.normalized, "state")
        drawing.edge(state, "logits", one.normalized)
        for token, offsets in taken.items():
            for position, effect in _strong(offsets, layer, whole):
                name = drawing.node(f"{write}[{layer}] @ {position}", position, layer + 0.35, effect, "write_input")
                drawing.edge(name, state, effect, f"[{token}]")
                drawing.edge(drawing.node(f"token @ {token}", token, -1, float("nan"), "embed"), name, float("nan"))
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.6, 1.0, "logits")
    return drawing.circuit(f"IOI circuit of {study.model.name}", _columns(study))


def _columns(study: Study) -> tuple[str, ...]:
    written = [position_name(token, n) for token in TOKENS for n in range(5)]
    return tuple(dict.fromkeys([*written, study.last(), "END"]))


def _strong(offsets: Offsets | None, layer: int, whole: float) -> list[tuple[str, float]]:
    """Positions at which a layer is found to write a token, with their normalized effect.

    The whole is that of the suite's own corruption, so that what works against the answer has another sign.
    """
    if offsets is None:
        return []
    found = [position_name(offsets.token, n) for verdict in offsets.verdicts if verdict.layer == layer for n in verdict.at]
    effects = next(iter(offsets.tables.values())).mean()
    return [(position, float(effects[layer, position]) / whole) for position in found]


def _nothing(study: Study, pictures: dict[str, Picture], most: float) -> SuiteResult:
    notes = [
        f"no state at END has {study.rule()} (the most is {most:.1%}): no IOI circuit was found",
        *study.caveats(study.tables["state_by_position"]),
    ]
    summary = study.summary([], notes, explained=0.0)
    return SuiteResult(study.tables, Drawing().circuit(f"IOI in {study.model.name}", _columns(study)), summary, pictures)
