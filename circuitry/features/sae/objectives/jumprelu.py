"""JumpReLU: a feature counts above a threshold of its own, which is learned; the penalty is on how many features count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....autoencoders.sae import SAE
from .objective import Objective

START = 2.0
"""First threshold. It and the bandwidth are in standard deviations that features have at first before the activation function:
the norm of a direction, since x has norm √D. Then one in forty features fires, and x̂ is a quarter of x."""


class JumpReLU(Objective):
    """Rajamanoharan et al. (2024), "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders".

    f = z·H(z - θ), where z is the feature before the activation function, H the step function and θ > 0 its threshold, and l0_penalty ·
    Σ H(z - θ) is added. The step has no gradient, so θ gets a straight-through estimate of the expected loss's: the step
    counts as a slope of width ``bandwidth``. The authors learn log θ; here θ itself is the parameter.
    """

    name, reads, function = "jumprelu", ("l0_penalty", "penalty_warmup", "bandwidth"), "jumprelu"

    @torch.no_grad()
    def begin(self, sae: SAE) -> None:
        """Give all features a threshold of two standard deviations.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> sae = SAE(SAEConfig(4, 32, "jumprelu"))
        >>> JumpReLU(Recipe(kind="jumprelu")).begin(sae)
        >>> sae.config.norm, sae.threshold[0].item()
        (0.5, 1.0)
        """
        sae.threshold.fill_(START * sae.config.norm)

    def activate(self, sae: SAE, before: Tensor) -> Tensor:
        """Features above their thresholds, the others 0.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> sae, before = SAE(SAEConfig(4, 3, "jumprelu")), torch.tensor([[0.0, 0.25, 1.0]])
        >>> _ = sae.threshold.data.fill_(0.5)
        >>> JumpReLU(Recipe(kind="jumprelu")).activate(sae, before).tolist()
        [[0.0, 0.0, 1.0]]
        """
        features: Tensor = _Jump.apply(before, sae.threshold, self.recipe.bandwidth * sae.config.norm)  # type: ignore[no-untyped-call]
        return features

    def added(self, sae: SAE, x: Tensor, before: Tensor, features: Tensor, done: float) -> Tensor | float:
        """The L0 penalty, summed over tokens.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> objective, before = JumpReLU(Recipe(kind="jumprelu", l0_penalty=0.5)), torch.tensor([[-1.0, 0.0, 1.0, 2.0]])
        >>> objective.added(SAE(SAEConfig(4, 4, "jumprelu")), before, before, before, 0.5).item()
        1.0
        """
        steps: Tensor = _Step.apply(before, sae.threshold, self.recipe.bandwidth * sae.config.norm)  # type: ignore[no-untyped-call]
        return self.recipe.l0_penalty * self.recipe.rise(done) * steps.sum()

    @torch.no_grad()
    def stepped(self, sae: SAE) -> None:
        """Keep thresholds at least 0: the learned SAE has no negative features.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> sae = SAE(SAEConfig(4, 2, "jumprelu"))
        >>> sae.threshold.data = torch.tensor([-1.0, 1.0])
        >>> JumpReLU(Recipe(kind="jumprelu")).stepped(sae)
        >>> sae.threshold.tolist()
        [0.0, 1.0]
        """
        sae.threshold.clamp_(min=0)

    @torch.no_grad()
    def restart(self, sae: SAE, dead: Tensor, alive: Tensor) -> None:
        """Give dead features 0.2 of the mean threshold of the living ones, as their encoder weights get 0.2 of the mean norm.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> sae = SAE(SAEConfig(4, 2, "jumprelu"))
        >>> sae.threshold.data = torch.tensor([2.0, 10.0])
        >>> JumpReLU(Recipe(kind="jumprelu")).restart(sae, torch.tensor([1]), torch.tensor([True, False]))
        >>> sae.threshold.tolist()
        [2.0, 0.4000000059604645]
        """
        sae.threshold[dead] = 0.2 * sae.threshold[alive].mean()


def _inside(before: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """Whether each feature [token, F] is within half a bandwidth of its threshold: the rectangle kernel of the estimators."""
    return (before - threshold).abs() < bandwidth / 2


class _Jump(torch.autograd.Function):
    """z·H(z - θ). By the estimator its derivative by θ is -θ/bandwidth within half a bandwidth of θ, else 0."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(before, threshold)
        ctx.bandwidth = bandwidth
        return before * (before > threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        before, threshold = ctx.saved_tensors
        slope = (gradient * _inside(before, threshold, ctx.bandwidth)).sum(0)
        return gradient * (before > threshold), -threshold / ctx.bandwidth * slope, None


class _Step(torch.autograd.Function):
    """H(z - θ). By the estimator its derivative by θ is -1/bandwidth within half a bandwidth of θ, else 0; by z it has none."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(before, threshold)
        ctx.bandwidth = bandwidth
        return (before > threshold).to(before.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        before, threshold = ctx.saved_tensors
        return None, -(gradient * _inside(before, threshold, ctx.bandwidth)).sum(0) / ctx.bandwidth, None
