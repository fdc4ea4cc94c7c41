"""The paper's published numbers, and a run that measures them and says which it finds again."""

from .published import Number, Published, Rule, published
from .run import Replication, replicate

__all__ = ["Number", "Published", "Replication", "Rule", "published", "replicate"]
