"""Sparse autoencoders on nodes: the value, training, evaluation and files."""

from ...autoencoders.files import load, save
from ...autoencoders.sae import SAE, SAEConfig
from .evaluate import evaluate
from .recipe import Recipe
from .sweep import sweep
from .swept import Sweep
from .train import train_sae
from .trained import Trained

__all__ = ["SAE", "Recipe", "SAEConfig", "Sweep", "Trained", "evaluate", "load", "save", "sweep", "train_sae"]
