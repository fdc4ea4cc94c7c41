"""Pictures of a discovery: the legend of a curve leaves it free, and the colours of its circuit follow the whole effect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import circuitry as ct
from circuitry.colours import fill
from circuitry.discovery.curve import Curve
from circuitry.discovery.figures import draw_curve

FRACTIONS = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
RISES = {
    "late": np.where(FRACTIONS < 0.05, 0.0, 1.0),
    "early": np.linspace(0.4, 1.0, 10),
    "in the middle": np.full(10, 0.5),
    "above one": np.linspace(1.3, 1.0, 10),
}


@pytest.mark.parametrize("shape", RISES)
def test_the_legend_of_a_curve_lies_outside_the_axes(shape: str) -> None:
    """Wherever the curve goes, so the legend cannot lie on it."""
    values = RISES[shape]
    frame = pd.DataFrame({
        "fraction": FRACTIONS, "edges": range(1, 11), "faithfulness": values, "low": values - 0.1, "high": values + 0.1,
        "random": values / 3, "random_low": values / 4, "random_high": values / 2,
    })  # fmt: skip
    figure = draw_curve(Curve(frame, 0.9, (0.8, 1.0), 0.1, (0.0, 0.2), 0.2, 0.8, True, "linear"))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["random edges", "the best edges"]
    for ax in figure.axes:
        drawn = ax.get_tightbbox()
        assert ax.get_legend() is None and drawn is not None and not drawn.overlaps(legend.get_window_extent())
    page, box = figure.bbox, legend.get_window_extent()
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


@pytest.mark.parametrize(("direction", "sign"), [("noising", -1), ("denoising", 1)])
def test_what_carries_the_behaviour_is_blue_in_both_directions(direction: str, sign: int) -> None:
    """The embedding of B has all of the difference between the prompts, whose sign turns with the direction."""
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8)
    found = ct.discover(model, task, level="node", verify=0, direction=direction, progress=False)
    drawn = found.diagram(12)
    embed = next(node for node in drawn.nodes if node.label == "embed" and node.position == "B")
    assert np.sign(found.whole) == np.sign(embed.effect) == sign and drawn.whole == pytest.approx(found.whole)
    blue = fill(abs(embed.effect), drawn.limit)
    assert int(blue[5:7], 16) > int(blue[1:3], 16)
    written = next(line for line in drawn.to_dot().splitlines() if '"embed @ B"' in line)
    assert f'fillcolor="{blue}"' in written
