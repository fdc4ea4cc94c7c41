"""Labels of latents on the axes of tables, of their pictures and of the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import PatchingTable
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.results.cells import cells_of, heat_map

LONG = 'a label | with $signs$ and "quotes" that no picture has room for'
SHORT = "3 a label | with $signs$ and…"


def table(path: str, **axes: list[Any]) -> PatchingTable:
    """A table over latents, of which two have labels."""
    cells: list[dict[str, Any]] = [{}]
    for axis, values in axes.items():
        cells = [{**cell, axis: value} for cell in cells for value in values]
    effects, ends = np.arange(len(cells) * 8.0).reshape(len(cells), 8), (np.zeros(8), np.ones(8))
    labels = {"a[0].latent[3]": LONG, "a[0].latent[5]": "names", "a[1].latent[5]": "names", "a[1].latent[3]": "verbs"}
    return PatchingTable.of(cells, effects, *ends, "logit", {"path": path, "labels": labels})


ONE = table("a[0].latent[{k}] -> b", k=[3, 4, 5])
DOWN = table("a[0].latent[{k}] @ {at} -> b", k=[3, 4], at=["B", "END"])
ACROSS = table("a[0].latent[{k}] @ {at} -> b", at=["B", "END"], k=[3, 4])


def test_text_has_labels_and_data_has_not() -> None:
    assert f"{SHORT}" in repr(ONE) and "\n4 " in repr(ONE) and "5 names" in repr(ONE)
    assert SHORT.replace("|", r"\|") in ONE.to_markdown() and r"\$signs\$" in ONE.to_latex()
    assert SHORT in repr(DOWN) and SHORT in repr(ACROSS)
    assert list(ONE.mean().index) == [3, 4, 5] and list(DOWN.pivot().index) == [3, 4]


@pytest.mark.parametrize(("made", "axis"), [(ONE, "y"), (DOWN, "y"), (ACROSS, "x")])
def test_pictures_have_labels_that_are_no_mathematics(made: PatchingTable, axis: str) -> None:
    figure = made.plot()
    figure.draw_without_rendering()
    ticks = getattr(figure.axes[0], f"get_{axis}ticklabels")()
    assert [tick.get_text() for tick in ticks][:2] == [SHORT, "4"] and not any(tick.get_parse_math() for tick in ticks)


def test_the_page_has_labels() -> None:
    cell = cells_of(ONE)[0]
    assert cell.label == SHORT and cell.place == f"k {SHORT}" and f"k: {SHORT}" in cell.tip.splitlines()
    assert heat_map(cells_of(ACROSS), ACROSS.axes)[0] == [SHORT, "4"]
    assert [row.heads[0][0] for row in heat_map(cells_of(DOWN), DOWN.axes)[1]] == [SHORT, "4"]


def test_a_number_that_is_several_latents_has_the_label_that_they_share() -> None:
    several = table("a[{layer}].latent[{k}] -> b", layer=[0, 1], k=[3, 4, 5])
    assert several.labels == {"k": {5: "names"}}
    assert table("a[{layer}].latent[3] -> b", layer=[0, 1]).labels == {}


def test_a_latent_that_the_path_names_is_in_the_caption() -> None:
    assert f"a[0].latent[3]: {LONG}" in table("a[0].latent[3] @ {at} -> b", at=["B", "END"]).caption()
    assert "a[0].latent[5]" not in ONE.caption()


def test_a_table_gets_the_labels_of_its_latents() -> None:
    sae = SAE(SAEConfig(128, 64), seed=1).labelled({3: LONG, 5: "names", 9: "elsewhere"})
    model, task = ct.load("bundled:mamba").attach({"resid[2]": sae}), ct.task("induction", distance=8, examples=2)
    options: dict[str, Any] = {"baseline": 0, "lint": False}
    made = ct.patch(model, task, "h[1] @ B -> resid[2].latent[{k}] @ B", axes={"k": [3, 4, 5]}, **options)
    assert made.provenance["labels"] == {"resid[2].latent[3]": LONG, "resid[2].latent[5]": "names"}
    assert made.labels == {"k": {3: LONG, 5: "names"}}
    assert "labels" not in ct.patch(model, task, "resid[2].latent[4] @ B -> logits", **options).provenance
