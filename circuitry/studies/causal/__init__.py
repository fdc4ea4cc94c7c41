"""Do matched features do the same? Effects of features and of their matches in another model, on the same prompts."""

from .of_experiment import causal_of
from .result import Causal
from .run import causal

__all__ = ["Causal", "causal", "causal_of"]
