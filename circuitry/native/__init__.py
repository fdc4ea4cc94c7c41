"""Original checkpoints of Mamba and RWKV-4, read into models of transformers without the authors' packages."""

from .build import build, tensors
from .find import PICKLED, Native, find, how_to_convert

__all__ = ["PICKLED", "Native", "build", "find", "how_to_convert", "tensors"]
