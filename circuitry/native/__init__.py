"""Checkpoints as the authors of Mamba and RWKV-4 publish them, read into transformers' models; their packages are not needed."""

from .build import build, tensors
from .find import PICKLED, Native, find, how_to_convert

__all__ = ["PICKLED", "Native", "build", "find", "how_to_convert", "tensors"]
