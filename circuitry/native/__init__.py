"""Original checkpoints of Mamba and RWKV, read into models of transformers, or into one of circuitry's own, without the authors' packages."""

from .build import build, tensors
from .find import PICKLED, Native, find, how_to_convert

__all__ = ["PICKLED", "Native", "build", "find", "how_to_convert", "tensors"]
