"""Sparse autoencoders on nodes: the value, training, evaluation and files."""

from .evaluate import evaluate
from .files import load, save
from .recipe import Recipe
from .sae import SAE, SAEConfig
from .train import train_sae
from .trained import Trained

__all__ = ["SAE", "Recipe", "SAEConfig", "Trained", "evaluate", "load", "save", "train_sae"]
