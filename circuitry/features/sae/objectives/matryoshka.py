"""Matryoshka: the first features alone must reconstruct too, so that general features come first and are not split up."""

from __future__ import annotations

from torch import Tensor

from ....autoencoders.sae import SAE
from .batchtopk import BatchTopK


class Matryoshka(BatchTopK):
    """Bussmann, Nabeshima, Karvonen and Nanda (2025), "Learning multi-level features with Matryoshka sparse autoencoders".

    A BatchTopK to whose loss the squared errors are added that the first 1/2, 1/4, ... of the features leave, ``prefixes`` sizes
    with the whole dictionary.
    """

    name, reads = "matryoshka", ("k", "auxiliary", "prefixes")

    def added(self, sae: SAE, x: Tensor, before: Tensor, features: Tensor, done: float) -> Tensor | float:
        """The squared errors of the shorter prefixes, summed over tokens.

        >>> import torch
        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> recipe, sae = Recipe(kind="matryoshka", k=1, prefixes=2), SAE(SAEConfig(4, 8, "topk", 1))
        >>> x, features = torch.ones(1, 4), torch.zeros(1, 8)
        >>> Matryoshka(recipe).added(sae, x, features, features, 0.5).item()  # that of the first four
        4.0
        """
        rest, total, first = x - sae.b_dec, x.new_zeros(()), 0
        for last in (sae.config.features >> halvings for halvings in range(self.recipe.prefixes - 1, 0, -1)):
            rest = rest - features[:, first:last] @ sae.W_dec[first:last]
            total = total + rest.square().sum()
            first = last
        return total
