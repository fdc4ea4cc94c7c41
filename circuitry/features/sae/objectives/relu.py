"""ReLU with an L1 penalty, as in appendix A of the paper."""

from __future__ import annotations

from torch import Tensor

from ....autoencoders.sae import SAE
from .objective import Objective


class ReLU(Objective):
    """l1 · Σ f‖d‖ is added, where d is a feature's direction; with a free decoder the factor ‖d‖ is left out.

    The penalty on f‖d‖ is that of Conerly et al. (2024), "Update on how we train SAEs".
    """

    name, reads, decoder = "relu", ("l1", "penalty_warmup"), "weighted"

    def added(self, sae: SAE, x: Tensor, before: Tensor, features: Tensor, done: float) -> Tensor | float:
        """The L1 penalty, summed over tokens.

        >>> import torch
        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> x, features = torch.ones(1, 4), torch.ones(1, 8)
        >>> ReLU(Recipe(l1=0.5)).added(SAE(SAEConfig(4, 8)), x, features, features, 0.5).item()  # all directions have norm 1
        4.0
        """
        weight = self.recipe.l1 * self.recipe.rise(done)
        if not weight:
            return 0.0
        if self.recipe.bound == "free":
            return weight * features.sum()
        norms: Tensor = sae.W_dec.norm(dim=1)
        penalty: Tensor = features.sum(0) @ (norms if self.recipe.bound == "weighted" else norms.detach())
        return weight * penalty
