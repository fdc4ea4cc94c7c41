"""Sparse autoencoders on nodes: the value, training, evaluation and files."""

from ...autoencoders.files import load, save
from ...autoencoders.sae import SAE, SAEConfig
from .evaluate import evaluate
from .recipe import Recipe
from .train import train_sae
from .trained import Trained

__all__ = ["SAE", "Recipe", "SAEConfig", "Trained", "evaluate", "load", "save", "train_sae"]
