"""Loading models and instrumenting them: hook points that executors can address, over the stock parameters."""

from ..prompting.vocabulary import Vocabulary
from .convert import Converted, convert
from .loading import bundled, load
from .model import Model, unloaded, wrap
from .scan import scan

__all__ = ["Converted", "Model", "Vocabulary", "bundled", "convert", "load", "scan", "unloaded", "wrap"]
