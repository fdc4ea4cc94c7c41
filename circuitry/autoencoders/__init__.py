"""Sparse autoencoders as values: their weights, the function they define, and their files. ``features.sae`` trains and evaluates them."""

from .files import load, save
from .sae import SAE, SAEConfig

__all__ = ["SAE", "SAEConfig", "load", "save"]
