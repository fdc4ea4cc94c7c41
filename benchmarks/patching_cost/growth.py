"""How the cost of case (a) grows with the number of cells, the length of prompts and the number of layers (with 12 cells for each layer)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import floor
from .cases import GPT2, SMALL_GPT2, Case, heads
from .measuring import HOOKS, Comparison

COLOURS = {"suffix": "#0072b2", "rows": "#e69f00", HOOKS: "#d55e00", "TransformerLens": "#009e73", "floor": "#999999"}


@dataclass(frozen=True)
class Series:
    """One quantity and the comparisons at its values, smallest first."""

    quantity: str
    points: tuple[tuple[int, Comparison], ...]

    def seconds(self, method: str) -> list[float]:
        """CPU seconds by a method; "floor" is the time of the hook loop divided by the predicted ratio of their arithmetic."""
        if method == "floor":
            return [point.measured[HOOKS].seconds / floor.ratio(point.case) for _, point in self.points]
        return [point.measured[method].seconds for _, point in self.points]

    @property
    def methods(self) -> list[str]:
        methods = list(self.points[0][1].measured)
        return [*methods, "floor"] if HOOKS in methods else methods

    def __str__(self) -> str:
        """A table of CPU seconds by method, with the predicted ratio of the hook loop to the floor."""
        head = [self.quantity, *self.methods, f"{HOOKS} / floor, predicted"]
        lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
        for k, (value, point) in enumerate(self.points):
            seconds = [f"{self.seconds(method)[k]:.3g}" for method in self.methods]
            lines.append(f"| {value:,} | {' | '.join(seconds)} | {floor.ratio(point.case):.1f} |")
        return "\n".join(lines)


def measure(quick: bool, length: int, prompts: int, compare: Callable[[Case], Comparison]) -> Iterator[Series]:
    """Three series around one case, which is measured once."""
    shape = SMALL_GPT2 if quick else GPT2
    measured: dict[str, Comparison] = {}

    def point(layers: int, tokens: int, sources: int) -> Comparison:
        chosen = [int((k + 0.5) * layers / sources) for k in range(sources)]
        case = heads("growth", replace(shape, layers=layers), tokens, prompts, chosen)
        key = f"{case} {case.cells}"
        if key not in measured:
            measured[key] = compare(case)
        return measured[key]

    sources, lengths, depths = ((1, 2), (length, 32), (2,)) if quick else ((1, 3, 6), (length, 64, 256, 1024), (3, 6, 24))
    layers = shape.layers
    yield Series("cells", tuple((n * shape.heads, point(layers, length, n)) for n in (*sources, layers)))
    yield Series("tokens", tuple((n, point(layers, n, layers)) for n in lengths))
    yield Series("layers", tuple((n, point(n, length, n)) for n in sorted({*depths, layers})))


def draw(series: list[Series], file: Path) -> None:
    """CPU seconds over each quantity, on logarithmic axes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"font.size": 8, "svg.hashsalt": "circuitry", "svg.fonttype": "none"}
    with rc_context(style):
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(series), sharey=True), series, strict=True):
            values = [value for value, _ in panel.points]
            for method in panel.methods:
                dashed = "--" if method == "floor" else "-"
                axes.plot(values, panel.seconds(method), dashed, marker=".", color=COLOURS[method], label=method)
            axes.set(xscale="log", yscale="log", xlabel=panel.quantity)
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel("CPU seconds, one thread")
        figure.axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(file, dpi=200)
