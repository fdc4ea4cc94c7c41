"""The paper's experiment: features of a model in other models, with its baseline and skylines, as figures, tables and a page."""

from .plan import Settings
from .result import Compared, Universality
from .run import experiment

__all__ = ["Compared", "Settings", "Universality", "experiment"]
