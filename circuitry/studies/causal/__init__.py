"""Do matched features do the same? Effects of features and of their matches in another model, on the same prompts."""

from .result import Causal
from .run import causal

__all__ = ["Causal", "causal"]
