"""The legend of a circuit's picture says what its marks are, and only those that it has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from circuitry.drawing.circuit import NORMALIZED, Circuit, CircuitEdge
from circuitry.drawing.circuit_legend import legend
from circuitry.suites.stages import Drawing
from support.drawn import EMPTY, MAMBA, TRANSFORMER

UNMEASURED = CircuitEdge("head[0,1]@B", "logits@END", math.nan)


def said(circuit: Circuit) -> str:
    return " ".join(text.get_text() for text in circuit.draw().get_axes()[0].texts)


def marks(circuit: Circuit) -> list[str]:
    return [entry.mark for entry in legend(circuit, 6.0) if entry.mark]


def test_it_names_the_marks_that_the_picture_has() -> None:
    assert marks(TRANSFORMER) == ["box", "arrow"]
    assert marks(MAMBA) == ["box", "grey box", "arrow"], "its logits were not measured"
    assert marks(replace(TRANSFORMER, edges=(*TRANSFORMER.edges, UNMEASURED))) == ["box", "arrow", "grey arrow"]
    assert "component" not in said(EMPTY)


def test_every_grey_arrow_is_explained_or_has_a_number() -> None:
    for circuit in (TRANSFORMER, replace(TRANSFORMER, edges=(*TRANSFORMER.edges, UNMEASURED))):
        arrows = [
            p for p in circuit.draw().get_axes()[0].patches if isinstance(p, PathPatch) and str(p.get_gid()).startswith("edge ")
        ]
        grey = [arrow for arrow in arrows if to_hex(arrow.get_edgecolor()) == "#777777"]
        assert len(grey) == sum(math.isnan(edge.effect) for edge in circuit.edges)
        assert bool(grey) == ("a connection that was not patched by itself, so that it has no number" in said(circuit))


def test_it_says_what_the_letters_and_the_lags_are() -> None:
    assert "k: into keys" in said(TRANSFORMER) and "lag 2: read by the convolution two tokens later" in said(MAMBA)
    assert "lag" not in said(TRANSFORMER)


def test_shares_are_said_to_be_shares_of_exchanging_the_whole_prompt() -> None:
    words = "+1.00 is the effect of exchanging the whole prompt"
    assert words in said(replace(TRANSFORMER, unit=NORMALIZED)) and words not in said(TRANSFORMER)


def test_a_node_for_several_heads_is_defined() -> None:
    drawing = Drawing()
    hub = drawing.hub("k of these heads", "B", 0.9, {}, [1])
    drawing.node("head[1,0]", "END", 1, 0.4, "head")
    drawing.edge(hub, "head[1,0]", math.nan)
    circuit = drawing.circuit("t", ("B", "END"))
    assert "k of these heads: not a node of the model, but the k of all heads that it points to" in said(circuit)
    assert Circuit.from_json(circuit.to_json()) == circuit, "the legend is part of the circuit"


@pytest.mark.parametrize("circuit", [MAMBA, TRANSFORMER], ids=lambda c: c.title)
def test_a_narrow_picture_has_every_box_and_fits_a_telephone(circuit: Circuit) -> None:
    wide, narrow = circuit.draw(), circuit.draw(width=4.2)
    assert narrow.get_figwidth() <= max(4.2, min(wide.get_figwidth(), 5.0))
    texts = [{text.get_text() for text in figure.get_axes()[0].texts} for figure in (wide, narrow)]
    assert {node.text for node in circuit.nodes} | set(circuit.positions) <= texts[0] & texts[1]
