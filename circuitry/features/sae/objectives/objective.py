"""What one kind of SAE learns: the part of a training that differs between kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from ....autoencoders.sae import SAE

if TYPE_CHECKING:
    from ..recipe import Recipe


class Objective(nn.Module):
    """One kind of SAE in training. The loss of a token is ‖x - x̂‖² and what ``added`` returns.

    Its buffers are part of a checkpoint. A kind defines only what differs from here.
    """

    name: ClassVar[str]
    """What ``kind`` of a recipe calls it."""
    reads: ClassVar[tuple[str, ...]]
    """The settings of the recipe that this kind reads and not every other does."""
    decoder: ClassVar[str] = "fixed"
    """What keeps directions from growing, if the recipe does not say."""
    function: ClassVar[str] = "relu"
    """The kind of the SAE value that learns; ``trained`` may return another kind."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def begin(self, sae: SAE) -> None:
        """Called once with a new SAE: set weights that begin otherwise than ``SAE`` says.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> Objective(Recipe()).begin(SAE(SAEConfig(4, 2)))
        """

    def activate(self, sae: SAE, before: Tensor) -> Tensor:
        """Features [token, F] in training, from what they are before the activation function.

        >>> import torch
        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> Objective(Recipe()).activate(SAE(SAEConfig(4, 2)), torch.tensor([[-1.0, 1.0]])).tolist()
        [[0.0, 1.0]]
        """
        return sae.activate(before)

    def added(self, sae: SAE, x: Tensor, before: Tensor, features: Tensor, done: float) -> Tensor | float:
        """What is added to the squared error, summed over tokens, after the fraction ``done`` of the steps.

        >>> import torch
        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> x, features = torch.ones(1, 4), torch.ones(1, 2)
        >>> Objective(Recipe()).added(SAE(SAEConfig(4, 2)), x, features, features, 0.5)
        0.0
        """
        return 0.0

    def stepped(self, sae: SAE) -> None:
        """Called after each step.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> Objective(Recipe()).stepped(SAE(SAEConfig(4, 2)))
        """

    def restart(self, sae: SAE, dead: Tensor, alive: Tensor) -> None:
        """Called when features are resampled, ``dead`` by number: set weights of theirs that only this kind has. ``alive`` [F] is a mask.

        >>> import torch
        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> Objective(Recipe()).restart(SAE(SAEConfig(4, 2)), torch.tensor([0]), torch.tensor([False, True]))
        """

    def trained(self, sae: SAE) -> SAE:
        """The SAE that is used after the training, from the one that learned.

        >>> from circuitry.autoencoders import SAEConfig
        >>> from circuitry.features.sae import Recipe
        >>> Objective(Recipe()).trained(SAE(SAEConfig(4, 8)))
        SAE(relu, 4 -> 8)
        """
        return sae
