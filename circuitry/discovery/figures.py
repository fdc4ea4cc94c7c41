"""A discovery as pictures: faithfulness by size, and exact effects against attributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..colours import CATEGORIES, FOUND, LINE, OTHERS
from ..drawing.figures import look, sheet
from .curve import Curve

if TYPE_CHECKING:
    from .result import Discovery

CAPTIONS = {
    "curve": "Blue: the best ones, with a 95 % bootstrap interval over prompts. Grey: random circuits of the same sizes, from the least "
    "to the most faithful. 1 is the whole model, 0 none of the behaviour.",
    "agreement": "Each dot is a verified edge, node or latent at a position: across its attribution, up its exact effect, with a 95 % interval. On "
    "the line both are equal.",
}


def draw_curve(curve: Curve) -> Figure:
    """Faithfulness by the share of edges, on a logarithmic axis.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=0)
    >>> draw_curve(found.curves(fractions=(0.1, 1.0), random=1)).axes[0].get_xscale()
    'log'
    """
    rows = curve.frame
    with look():
        figure = sheet(5.0, 3.2)
        ax = figure.add_subplot()
        for at in (0, 1):
            ax.axhline(at, color=LINE, linewidth=0.6, linestyle="--", zorder=0)
        ax.fill_between(rows["fraction"], rows["random_low"], rows["random_high"], color=OTHERS, alpha=0.5, linewidth=0)
        ax.plot(rows["fraction"], rows["random"], color=LINE, marker=".", label=f"random {curve.what}")
        ax.fill_between(rows["fraction"], rows["low"], rows["high"], color=FOUND, alpha=0.2, linewidth=0)
        ax.plot(rows["fraction"], rows["faithfulness"], color=FOUND, marker="o", markersize=3.5, label=f"the best {curve.what}")
        ax.set(xscale="log", xlabel=f"share of all {curve.what}", ylabel="faithfulness")
        ax.set_title(f"CPR {curve.cpr:.2f} (random {curve.random_cpr:.2f}), CMD {curve.cmd:.2f} (random {curve.random_cmd:.2f})")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_agreement(found: Discovery) -> Figure:
    """Exact effects against attributions, a colour for each kind.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=4)
    >>> draw_agreement(found).axes[0].get_ylabel()
    'exact effect'
    """
    rows = found.ranking.dropna(subset=["exact"])
    with look():
        figure = sheet(5.0, 4.0)
        ax = figure.add_subplot()
        ends = [
            min(rows["attribution"].min(), rows["exact"].min(), 0.0),
            max(rows["attribution"].max(), rows["exact"].max(), 0.0),
        ]
        ax.plot(ends, ends, color=LINE, linewidth=0.8, zorder=0, label="equal")
        for number, (kind, part) in enumerate(rows.groupby("kind", sort=False)):
            colour = CATEGORIES[number % len(CATEGORIES)]
            lengths = [(part["exact"] - part["low"]).clip(lower=0), (part["high"] - part["exact"]).clip(lower=0)]
            ax.errorbar(part["attribution"], part["exact"], lengths, fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.6)
            marker = "os^D"[number // len(CATEGORIES) % 4]
            ax.scatter(part["attribution"], part["exact"], s=14, color=colour, marker=marker, linewidth=0, label=str(kind))
        agreement = found.agreement.iloc[0]
        ax.set_title(f"r = {agreement.r:.2f}, slope {agreement.slope:.2f}, {len(rows)} verified")
        ax.set(xlabel=f"attribution by {found.method}, {found.question.metric.unit}", ylabel="exact effect")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    return figure
