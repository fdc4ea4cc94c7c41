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
from ..results.table import PatchingTable
from ..results.writing import count
from .keys import keys
from .result import Component, Picture, SuiteResult, Summary
from .stages import Drawing
from .study import Study

TOKENS = {"IO": 4, "S1": 4, "S2": 2}
"""Names whose write position is measured, and how many tokens after each: there are only a few words between S2 and the end."""
READING = "the effect of a component that writes a name is normalized by that of a corruption of that name alone"
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
    layers = keys(last)
    if not layers:
        return _nothing(study, pictures, last)
    taken = {token: study.offsets(token, reach, corruption=token) for token, reach in TOKENS.items()}
    for token, offsets in taken.items():
        if offsets:
            table = next(iter(offsets.tables.values())).titled(f"Where {token} is written, by layer ([{token}'])")
            study.keep(f"writes_{token}", table, offsets.text())
    scores = score(study.model, study.task, {"state": [f"{state}[{n}]" for n in sorted(layers)]}, **study.plain_options)
    study.keep("scores", scores.table, scores.text())
    pictures["scores"] = Picture("Is it the circuit?", scores.text(), draw(scores))
    components = [
        study.component(f"{state}[{n}]", "state", "state_by_position", (n, end), _written(taken, n), end) for n in layers
    ]
    return SuiteResult(study.tables, _circuit(study, components, taken), _summary(study, components, taken, scores), pictures)


def _figure13(study: Study, path: str) -> Picture:
    """The change of IO's logit and of S's at every position, for prompts of one wording, so that the axis can show tokens."""
    fixed = {"template": 0, "order": "ABBA", "corruption": "all"}
    prompts = study.task.but(**fixed).prompts(study.model.vocabulary)
    ends = prompts.where["END"]
    if len(set(ends.tolist())) > 1:  # places or objects of several tokens move the tokens after them
        study.say("prompts of one wording differ in length, so tokens on the axis are those of the first")
    positions = [str(n) for n in range(int(ends.min()) + 1)]
    title = "Where each layer writes the names (paper Figure 13)"
    measured = study.patch(title, path, task=fixed, metric=["logit", "foil_logit"], position=positions)
    names = {"logit": "IO", "foil_logit": "S"}
    random = None if measured.random is None else measured.random.replace({"metric": names})
    table = replace(
        measured, frame=measured.frame.replace({"metric": names}), random=random, unit="change of the logit of IO or S"
    )
    columns = table.select("metric", "IO").pivot().columns  # a token before the first name is the same in both prompts
    labels = [_token(study, prompts.clean[0], prompts.where, int(n)) for n in columns]
    caption = "Change of the logit of IO (left half of a cell) and of S (right half) when the scan input of a layer is patched at one token; all other states frozen."
    study.keep("figure13", table, f"{caption} Tokens: {' '.join(labels)}")
    return Picture(title, caption, split_cells(table, "metric", labels))


def _token(study: Study, ids: NDArray[np.int64], where: dict[str, NDArray[np.int64]], position: int) -> str:
    """The role of the name at a position, or else the token itself."""
    roles = [name for name, at in where.items() if name != "END" and int(at[0]) == position]
    return roles[0] if roles else study.model.vocabulary.decode(int(ids[position])).strip() or "_"


def _written(taken: dict[str, Offsets | None], layer: int) -> str:
    """The positions at which a layer writes the names, or that there is none."""
    positions = []
    for token, offsets in taken.items():
        for verdict in offsets.verdicts if offsets else ():
            if verdict.layer == layer:
                positions += [position_name(token, n) for n in verdict.at]
    return ", ".join(positions) or "no single place"


def _summary(study: Study, components: list[Component], taken: dict[str, Offsets | None], scores: Scores) -> Summary:
    end = study.last()
    sites = ", ".join(f"{component.node} @ {end}" for component in components)
    joint = study.normalized_effect("All key states together", f"({sites}) -> logits freezing {study.carriers}")
    notes = [
        f"each state, patched alone at {end}, has {study.rule()}",
        READING,
        *study.caveats(study.tables["state_by_position"]),
    ]
    verdict = "\n".join([*(f"{token}: {o.text()}" for token, o in taken.items() if o), scores.text()])
    together = f"the {count(len(components), 'state')}"
    components = [*components, *_writers(study, components, taken)]
    return study.summary(components, notes, explained=joint, together=together, taken=taken["IO"], verdict=verdict)


def _writers(study: Study, components: list[Component], taken: dict[str, Offsets | None]) -> list[Component]:
    """The scan inputs that write the names into the key states; effects normalized by that of the name's own corruption."""
    write, layers = study.name("write_input"), [component.layer for component in components]
    writers = []
    for token, offsets in taken.items():
        for verdict in offsets.verdicts if offsets else ():
            at = [position_name(token, n) for n in verdict.at] if verdict.layer in layers else []
            role, table = f"writes {token} into the state", f"writes_{token}"
            writers += [study.component(f"{write}[{verdict.layer}]", role, table, (verdict.layer, p), p) for p in at]
    return writers


def _circuit(study: Study, components: list[Component], taken: dict[str, Offsets | None]) -> Circuit:
    """For every key layer: the names, the positions at which the layer writes each, its state at END, and the answer."""
    write, drawing, main = study.name("write_input"), Drawing(), study.tables["state_by_position"].frame
    total = float((main["source"] - main["base"]).mean())
    for component in components:
        layer = component.layer
        state = drawing.node(f"{component.node} @ {study.last()}", study.last(), layer + 0.35, component.normalized, "state")
        drawing.edge(state, "logits", component.normalized)
        for token, offsets in taken.items():
            for position, effect in _strong(offsets, layer, total):
                name = drawing.node(f"{write}[{layer}] @ {position}", position, layer + 0.35, effect, "write_input")
                drawing.edge(name, state, effect, f"[{token}]")
                drawing.edge(drawing.node(f"token @ {token}", token, -1, float("nan"), "embed"), name, float("nan"))
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.6, 1.0, "logits")
    return drawing.circuit(f"IOI circuit of {study.model.name}", _columns(study))


def _columns(study: Study) -> tuple[str, ...]:
    written = [position_name(token, n) for token in TOKENS for n in range(5)]
    return tuple(dict.fromkeys([*written, study.last(), "END"]))


def _strong(offsets: Offsets | None, layer: int, total: float) -> list[tuple[str, float]]:
    """Positions at which a layer writes a token, with their normalized effect.

    ``total`` is the effect of the suite's corruption, not of the token's, so that writes against the answer keep their sign.
    """
    if offsets is None:
        return []
    positions = [position_name(offsets.token, n) for verdict in offsets.verdicts if verdict.layer == layer for n in verdict.at]
    effects = next(iter(offsets.tables.values())).mean()
    return [(position, float(effects[layer, position]) / total) for position in positions]


def _nothing(study: Study, pictures: dict[str, Picture], table: PatchingTable) -> SuiteResult:
    summary = study.nothing("state at END", "IOI", table)
    return SuiteResult(study.tables, Drawing().circuit(f"IOI in {study.model.name}", _columns(study)), summary, pictures)
