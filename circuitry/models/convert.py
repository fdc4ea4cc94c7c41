"""From GGUF, pickled or original checkpoints to folders with safetensors: of models, which ``load`` reads, and of autoencoders."""

from __future__ import annotations

import functools
import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..autoencoders.files import PICKLE
from ..autoencoders.layouts import dictionary_learning
from ..errors import CircuitryError, ModelError
from ..native.build import build, tensors
from ..native.find import Native, find
from ..store.files import write_whole
from ..store.wholeness import PLAIN
from .checkpoint import Source, check_not_quantised, merged
from .gguf.folder import write_folder
from .gguf.parts import siblings
from .packaged import in_package
from .quiet import quiet

_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"),
)


@dataclass(frozen=True)
class Converted:
    """What ``convert`` did: the files it read and their kind, the folder it wrote, and the model or autoencoder in it.

    ``tokenizer``: its files; None for an autoencoder, which has none.
    """

    sources: tuple[Path, ...]
    kind: str
    folder: Path
    model_type: str
    parameters: int
    dtype: torch.dtype
    tokenizer: tuple[str, ...] | None

    def __str__(self) -> str:
        weights = f"{self.kind} weights: {', '.join(map(str, self.sources))}"
        size = f"{self.model_type}, {self.parameters / 1e6:.2f}M parameters, {str(self.dtype).removeprefix('torch.')}"
        tokenizer = f"; tokenizer: {', '.join(self.tokenizer)}" if self.tokenizer else "; no tokenizer beside them"
        return f"{weights}\n{size}{tokenizer if self.tokenizer is not None else ''}\nwritten: {self.folder.resolve()}"


def convert(source: str | Path, target: str | Path) -> Converted:
    """Convert a GGUF file, an original mamba-ssm folder, an RWKV checkpoint or a pickled model to a Hugging Face folder with safetensors.

    An autoencoder of dictionary_learning becomes a folder that ``SAE.load`` reads.

    ``source``: a ``.gguf`` file or ``package:NAME``, a mamba-ssm folder, an RWKV-4 or RWKV-7 file or the folder that holds one, a Hugging Face folder with
    ``pytorch_model.bin``, or a folder with ``ae.pt``. Pickles are read by ``torch.load(weights_only=True)``, which runs no code in them. ``target``: a new
    folder, which appears complete or not at all. Weights keep their dtype; several dtypes become the narrowest that holds all.
    Those of a GGUF file become float32.

    Raises CircuitryError if the target exists, and ModelError if the source is none of these, holds code or is incomplete.

    >>> convert("no/such/folder", "new")
    Traceback (most recent call last):
    circuitry.errors.ModelError: no file or folder no/such/folder
    """
    source, target = Path(source), Path(target)
    if target.exists():
        raise CircuitryError(f"{target} already exists and is not overwritten; name a new folder")
    if (source / PICKLE).is_file():
        return _autoencoder(source, target)
    if str(source).startswith("package:") or source.suffix == ".gguf":
        return _gguf(source, target)
    with quiet():
        files, kind, hf = _read(source)
        tokenizer = tuple(name for name in _TOKENIZER if (source / name).is_file())

        def write(new: Path) -> None:
            hf.save_pretrained(new)
            for name in tokenizer:
                shutil.copyfile(source / name, new / name)

        write_whole(target, write)
    return Converted(files, kind, target, hf.config.model_type, hf.num_parameters(), hf.dtype, tokenizer)


def _autoencoder(source: Path, target: Path) -> Converted:
    """An autoencoder of dictionary_learning. Its settings say what its tensors mean, so they must be there."""
    file, settings = source / PICKLE, source / "config.json"
    try:
        given = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{settings} cannot be read ({error})") from None
    if not isinstance(given, dict):
        raise ModelError(f"{settings}: expected settings by name, got {type(given).__name__}")
    sae = dictionary_learning.read(given, tensors(file, pickled=True))
    write_whole(target, sae.save)
    size = sum(value.numel() for value in sae.parameters())
    return Converted((file,), "dictionary_learning", target, f"{sae.config.kind} autoencoder", size, torch.float32, None)


def _gguf(source: Path, target: Path) -> Converted:
    package = str(source).removeprefix("package:")
    with quiet(), in_package(package) if package != str(source) else nullcontext(source) as file:
        hf = write_folder(file, target)
        files = tuple(Path(file.name) for file in siblings(file))
    tokenizer = tuple(name for name in _TOKENIZER if (target / name).is_file())
    return Converted(files, "GGUF", target, hf.config.model_type, hf.num_parameters(), hf.dtype, tokenizer)


def _read(source: Path) -> tuple[tuple[Path, ...], str, Any]:
    if not source.exists():
        raise ModelError(f"no file or folder {source}")
    Source(str(source), str(source)).check_no_adapter()
    native = find(source)
    if native is None:
        files, config, weights = _pickled_hugging_face(source)
        return files, "Hugging Face", build(config, weights, _dtype(weights), str(source))
    return (native.weights,), native.kind, _native(native, str(source))


def _native(native: Native, name: str) -> Any:
    weights = tensors(native.weights, pickled=native.pickled)
    config, renamed = native.translated(weights, name)
    return build(config, renamed, _dtype(weights), name)


def _pickled_hugging_face(folder: Path) -> tuple[tuple[Path, ...], Any, dict[str, torch.Tensor]]:
    if list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has safetensors already; circuitry.load reads it as it is")
    files = tuple(sorted(folder.glob("pytorch_model*.bin")))
    if not files:
        raise ModelError(
            f"{folder} cannot be converted: expected a mamba-ssm folder, an RWKV checkpoint, or a folder with pytorch_model.bin"
        )
    config = Source(str(folder), str(folder)).config()
    check_not_quantised(config, str(folder))
    return files, config, merged(files, functools.partial(tensors, pickled=True), str(folder))


def _dtype(weights: dict[str, torch.Tensor]) -> torch.dtype:
    floats = {value.dtype for value in weights.values()} & set(PLAIN)
    return functools.reduce(torch.promote_types, floats) if floats else torch.float32
