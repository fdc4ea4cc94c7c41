"""GGUF files, whole or in parts, read by transformers; every tensor and every setting is used, or the file is refused."""

from .load import load_gguf
from .parts import one_file

__all__ = ["load_gguf", "one_file"]
