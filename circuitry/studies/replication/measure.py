"""The paper's numbers, measured: Tables 1 to 4 on a model with states, and the summary of the experiment on features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...errors import CircuitryError
from ...patching.experiment import patch
from ...prompting.task import task
from ...thresholds import NEAR_ZERO
from .published import published

if TYPE_CHECKING:
    from ...models.model import Model
    from ..experiment.result import Universality

LAYER = 17
"""The paper's layer with the key state (section 6.1)."""
Measured = dict[str, float]
"""Measured numbers, by their names in ``published``."""


def tables(
    model: Model,
    *,
    examples: int = 128,
    distances: Iterable[int] | None = None,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Measured:
    """The cells of Tables 1 to 4 that exist in a model, by name: the mean change of the logit of B.

    A model with fewer than 18 layers has no layer 17. Tables 2 to 4 are then measured at the layer whose state has the largest
    effect in Table 1. ``options`` go to ``circuitry.patch``. Raises CircuitryError for a model without the paper's nodes.

    >>> import circuitry as ct
    >>> found = tables(ct.load("bundled:mamba"), examples=2, distances=[8])
    >>> len(found), found["Table 2, distance 8, position A"]
    (15, 0.0)
    """
    if missing := [role for role in ("state", "write_input", "conv_input") if not model.graph.by_role(role)]:
        raise CircuitryError(f"{model.name} has no {missing[0]}; Tables 1 to 4 need a Mamba, such as bundled:mamba")
    layers = model.graph.sizes["layer"]
    chosen = list(distances) if distances is not None else sorted({n.distance for n in published().numbers if n.table})
    found: Measured = {}
    for table in published().tables.values():
        at = [value for value in table.values if table.axis != "layer" or int(value) < layers]
        layer = LAYER if layers > LAYER else _key_layer(found, layers)
        for distance in chosen:
            say(f"{table.name}, distance {distance}")
            posed = task("induction", examples=examples, distance=distance, corruption=table.corruption)
            path = table.path.replace("LAYER", str(layer))
            # A cell that cannot have an effect, such as [A] where only [B] was changed, is left out of the table: it is 0.
            measured = patch(model, posed, path, axes={table.axis: at}, baseline=0, **options).mean()
            found |= {f"{table.name}, distance {distance}, {table.axis} {value}": float(measured.get(value, 0.0)) for value in at}
    return found


def _key_layer(found: Measured, layers: int) -> int:
    """The layer whose state has the largest effect in Table 1, over all distances; 0 before Table 1 is measured."""
    effects = [sum(abs(v) for name, v in found.items() if name.endswith(f", layer {layer}")) for layer in range(layers)]
    return effects.index(max(effects))


def features(result: Universality) -> Measured:
    """The numbers of section 4.4, by name, from the result of the experiment; those that it does not have are left out.

    >>> from circuitry.studies.experiment.result import Universality
    >>> features(Universality({}, {}))
    {}
    """
    found: Measured = {}
    rows = {row["comparison"]: row for row in result.frame.to_dict("records") if row["direction"] == "forward"}
    marginal = {
        row["comparison"]: {**row, "near zero": row[f"within ±{NEAR_ZERO}"]} for row in result.marginal.to_dict("records")
    }
    for number in published().numbers:
        row = {**rows.get(number.comparison, {}), **marginal.get(number.comparison, {})}
        if number.measure in row:
            found[number.name] = float(row[number.measure])
    return found
