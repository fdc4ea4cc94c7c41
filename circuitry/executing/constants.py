"""The tensors that an intervention makes and puts in place, if it takes no values from the source input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import CircuitryError
from ..models.model import Model
from ..paths.values import Site
from ..planning.interventions import Intervention
from ..planning.positions import absolute
from ..planning.values import Plan, Write
from ..prompting.prompts import Prompts
from .executor import Cost
from .means import cost_of_means, means


def constant_values(model: Model, plan: Plan, prompts: Prompts, memory: int) -> Mapping[Write, Tensor]:
    """The value that the plan's intervention puts in place at each of its writes; empty if values come from the source input.

    Numbers stay numbers (of no dimension), tensors have the node's own shape. Raises CircuitryError where one does not fit.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "gate[0] @ END -> logits", intervention="mean")
    >>> [tuple(value.shape) for value in constant_values(model, plan, prompts, 1 << 28).values()]
    [(256,)]
    """
    if plan.intervention.make is None:
        return {}
    sites = {write: Site(write.node, write.at) for cell in plan.cells for write in cell.passes[0].writes}
    shared = _Shared(model, tuple(sites.values()), prompts, memory)
    return {write: _Source(site, shared).fitted(plan.intervention) for write, site in sites.items()}


def cost_of_constants(model: Model, plan: Plan, prompts: Prompts, memory: int) -> Cost:
    """The cost of the passes in ``constant_values``: over all prompts for means, over one prompt for the shapes of given tensors.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "gate[{layer}] @ END -> logits", intervention="mean")
    >>> cost_of_constants(model, plan, prompts, 1 << 28).token_layers == len(prompts) * prompts.length * 4
    True
    """
    make, value = plan.intervention.make, plan.intervention.value
    if make is None:
        return Cost(0, 0, 0)
    try:
        constant = make(_Asking(), value)
    except _MeanAsked:
        return cost_of_means(model, prompts, memory)
    return cost_of_means(model, _first(prompts), memory) if _as_tensor(constant, plan.intervention).dim() else Cost(0, 0, 0)


class _MeanAsked(Exception):
    """Raised when a maker asks for a mean."""


class _Asking:
    """A source that only finds out whether a maker asks for a mean, without running the model."""

    def mean(self) -> Any:
        raise _MeanAsked


@dataclass(frozen=True)
class _Shared:
    """Means and shapes of all written sites, computed for all of them together when the first is needed."""

    model: Model
    sites: tuple[Site, ...]
    prompts: Prompts
    memory: int

    @cached_property
    def means(self) -> Mapping[Site, Tensor]:
        return means(self.model, self.sites, self.prompts, self.memory)

    @cached_property
    def shapes(self) -> Mapping[Site, torch.Size]:
        has_means = "means" in vars(self)  # a mean has the shape, and costs nothing once it is there
        values = self.means if has_means else means(self.model, self.sites, _first(self.prompts), self.memory)
        return {site: value.shape for site, value in values.items()}


def _first(prompts: Prompts) -> Prompts:
    return prompts.take(slice(1))


@dataclass(frozen=True)
class _Source:
    """A site that is written, as the maker of its value sees it (``planning.interventions.Source``)."""

    site: Site
    shared: _Shared

    def mean(self) -> Tensor:
        prompts, at = self.shared.prompts, self.site.at
        alike = len(set(prompts.stops.tolist())) == 1
        if self._is_pattern and not (alike and (at is None or len(set(absolute(at, prompts.where))) == 1)):
            raise CircuitryError(
                f"the mean of {self.site} over prompts of different shape attends to later tokens or padding; use 'zero' or 'resample'"
            )
        return self.shared.means[self.site]

    @property
    def _is_pattern(self) -> bool:
        """Whether the site is an attention pattern: how a token's attention is divided among the tokens that it can see."""
        return self.site.node.port == "pattern"

    def fitted(self, intervention: Intervention) -> Tensor:
        """The value that an intervention makes, in the node's own shape unless it is one number."""
        raw = intervention.make(self, intervention.value) if intervention.make else None
        value = self._in_shape(_as_tensor(raw, intervention), intervention)
        if not value.isfinite().all():
            raise CircuitryError(f"{intervention} for {self.site} has values that are not finite, and so would every effect")
        if self._is_pattern and value.dim() == 0 and value != 0:
            raise CircuitryError(
                f"{self.site} is how one token's attention is divided; {value.item():g} everywhere would attend to later tokens too. "
                "Give a row"
            )
        if self._is_pattern and value.dim() and self._looks_ahead(value):
            raise CircuitryError(
                f"{self.site} is how one token's attention is divided, and {intervention} attends to tokens after it; "
                "give a row that is zero there"
            )
        return value

    def _looks_ahead(self, pattern: Tensor) -> bool:
        """Whether a row [key] attends to tokens after its own in any example, or any row of a whole pattern [query, key] does."""
        if self.site.at is None:
            return bool(pattern.triu(1).any())
        return bool(pattern[min(absolute(self.site.at, self.shared.prompts.where)) + 1 :].any())

    def _in_shape(self, value: Tensor, intervention: Intervention) -> Tensor:
        if value.dim() == 0:
            return value
        shape = self.shared.shapes[self.site]
        try:
            return value.expand(shape)
        except RuntimeError as error:
            raise CircuitryError(
                f"{intervention.name!r} puts {tuple(value.shape)} where {self.site} has shape {tuple(shape)}"
            ) from error


def _as_tensor(raw: Any, intervention: Intervention) -> Tensor:
    """A number or tensor that was made, as a tensor of real numbers. Raises CircuitryError for anything else."""
    try:
        # By itself a number would be a float32; it is written in the node's own dtype.
        value = torch.tensor(raw, dtype=torch.float64) if type(raw) in (int, float) else torch.as_tensor(raw)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        large = isinstance(error, OverflowError)
        content = "a number that no tensor can hold" if large else f"{type(raw).__name__}"
        raise _refused(intervention, content, "a number, or a tensor of the node's shape") from None
    if value.is_meta or value.is_quantized or value.is_nested or value.layout != torch.strided:
        raise _refused(intervention, "a tensor that is sparse, nested, quantised or without values", "a plain one")
    if value.is_complex():
        raise _refused(intervention, "complex numbers", "real ones; .real, .imag or .abs() makes them")
    if value.dtype == torch.bool:
        raise _refused(intervention, "truth values", "numbers; .double() makes them")
    return value.float() if value.is_floating_point() and value.itemsize == 1 else value  # torch can do little in eight bits


def _refused(intervention: Intervention, content: str, expected: str) -> CircuitryError:
    return CircuitryError(f"{intervention.name!r} puts {content} in place; expected {expected}")
