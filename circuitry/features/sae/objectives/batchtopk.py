"""BatchTopK: a batch keeps k features a token on average, so that tokens may have different numbers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ....autoencoders.sae import SAE
from .objective import Objective

if TYPE_CHECKING:
    from ..recipe import Recipe

MEMORY = 10
"""The threshold is a mean over the batches so far in which the last tenth of them weighs most."""


class BatchTopK(Objective):
    """Bussmann, Leask and Nanda (2024), "BatchTopK sparse autoencoders".

    The k · tokens greatest features of a batch are kept. After the training, where a token must not depend on others, a feature
    is kept above one threshold, the mean of the least feature that batches kept: the trained SAE is a jumprelu whose features all
    have this threshold, as SAELens stores it.
    """

    name, function = "batchtopk", "topk"
    reads: ClassVar[tuple[str, ...]] = ("k", "auxiliary")
    threshold: Tensor
    batches: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.float64))
        self._least = torch.zeros(())

    def activate(self, sae: SAE, before: Tensor) -> Tensor:
        """The k · tokens greatest features of the batch, the others 0.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> before = torch.tensor([[4.0, 3.0, 2.0], [1.0, 0.5, -1.0]])
        >>> BatchTopK(Recipe(kind="batchtopk", k=1)).activate(SAE(SAEConfig(4, 3, "topk", 1)), before).tolist()
        [[4.0, 3.0, 0.0], [0.0, 0.0, 0.0]]
        """
        positive = before.relu()
        kept = positive.detach().flatten().topk(self.recipe.k * len(before), sorted=False).values
        self._least = kept.min()
        return positive * (positive >= self._least)

    @torch.no_grad()
    def stepped(self, sae: SAE) -> None:
        """Let the threshold follow the least feature that was kept.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> objective, sae = BatchTopK(Recipe(kind="batchtopk", k=1)), SAE(SAEConfig(4, 3, "topk", 1))
        >>> for least in (1.0, 2.0):
        ...     objective._least = torch.tensor(least)
        ...     objective.stepped(sae)
        >>> round(float(objective.threshold), 2)  # 1 + 10/11
        1.91
        """
        least = self._least.double()
        self.batches += 1
        self.threshold += (least - self.threshold) * MEMORY / (self.batches + MEMORY - 1)

    @torch.no_grad()
    def trained(self, sae: SAE) -> SAE:
        """The jumprelu with this threshold for every feature.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> BatchTopK(Recipe(kind="batchtopk", k=1)).trained(SAE(SAEConfig(4, 8, "topk", 1)))
        SAE(jumprelu, 4 -> 8)
        """
        return sae.jumping(self.threshold.expand(sae.config.features))
