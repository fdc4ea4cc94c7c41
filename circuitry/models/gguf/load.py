"""From a GGUF file to a Hugging Face model."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ...architecture.definitions import definition_for
from ...errors import ModelError
from ...store.wholeness import check_loaded, check_used
from .parts import value, whole
from .settings import ARCHITECTURES, settle


def load_gguf(path: Path, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    """The Hugging Face model of a GGUF file, or of all parts of one, and its tokenizer: the one given, the file's, or None.

    Raises ModelError if the file cannot be read, or if transformers would not use all of it.
    """
    hf, found = read_gguf(path, dtype, graph, tokenizer)
    if isinstance(found, ModelError):
        raise found
    return hf, found


def read_gguf(path: Path, dtype: torch.dtype, graph: str | None, tokenizer: Any = None) -> tuple[Any, Any]:
    """As ``load_gguf``, but a tokenizer that transformers cannot read is returned as the ModelError that says so."""
    if not path.is_file():
        raise ModelError(f"no file {path}")
    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise ModelError("reading GGUF files needs the extra: pip install 'circuitry-lm[gguf]'")
    try:
        with whole(path) as (file, reader), _parsed_once(reader) as shown:
            return _read(file, reader, shown, path.name, dtype, graph, tokenizer)
    except ModelError:
        raise
    except Exception as error:  # a damaged file makes its readers raise almost anything
        raise ModelError(f"{path.name} could not be read as GGUF: {_short(error)}") from error


@contextmanager
def _parsed_once(reader: Any) -> Iterator[_Shown]:
    """Let transformers use this reader, and one table of names; by itself it parses a file again for the config, the weights and
    the tokenizer, and makes the table of names again for every module of the model."""
    import gguf

    shown, stock = _Shown(reader), (gguf.GGUFReader, gguf.get_tensor_name_map)
    gguf.GGUFReader, gguf.get_tensor_name_map = (lambda *_, **__: shown), functools.cache(gguf.get_tensor_name_map)
    try:
        yield shown
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = stock


class _Shown:
    """A reader that hides some lists. transformers decodes every word of every list of a vocabulary whenever it reads anything."""

    def __init__(self, reader: Any) -> None:
        self.tensors, self.fields, self._reader = reader.tensors, reader.fields, reader

    def hide(self, *kept: str) -> None:
        """Hide the tokenizer's lists, all but ``kept``. Its numbers stay: some are settings of the model, such as ``pad_token_id``."""
        fields = self._reader.fields.items()
        self.fields = {k: f for k, f in fields if k in kept or len(f.data) == 1 or not k.startswith("tokenizer.")}

    def hide_nothing(self) -> None:
        self.fields = self._reader.fields

    def get_field(self, key: str) -> Any:
        return self.fields.get(key)

    def get_tensor(self, index: int) -> Any:
        return self.tensors[index]


def _read(
    file: Path, reader: Any, shown: _Shown, name: str, dtype: torch.dtype, graph: str | None, tokenizer: Any
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("tokenizer.")}
    if "general.architecture" not in metadata:
        raise ModelError(f"{name} does not say what model it is (general.architecture)")
    if (architecture := metadata["general.architecture"]) not in ARCHITECTURES:
        raise ModelError(
            f"{name} is of architecture {architecture!r}, and no test compares such files with the model that they were made of; "
            f"these are read: {', '.join(sorted(ARCHITECTURES))}. Load the same model from safetensors"
        )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    location = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "trust_remote_code": False}
    shown.hide("tokenizer.ggml.tokens")  # whose number is the size of the vocabulary, if the file does not give it
    config = AutoConfig.from_pretrained(**location)
    shown.hide()
    definition_for(config.model_type, graph)
    settle(config, metadata, tensors, name)
    with redirect_stderr(StringIO()):  # its progress bar for GGUF cannot be turned off
        hf, report = AutoModelForCausalLM.from_pretrained(
            **location, config=config, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    shown.hide_nothing()
    _check_tensors(hf, metadata["general.architecture"], tensors, name)
    check_loaded(hf, report, {}, name)
    if getattr(hf, "is_quantized", False):  # all its weights are floats now, so it may be saved like any other model
        hf.hf_quantizer.remove_quantization_config(hf)
    return hf, tokenizer or _tokenizer(location, reader, name)


def _check_tensors(hf: Any, architecture: str, tensors: Mapping[str, Any], name: str) -> None:
    """Refuse a file with tensors that transformers did not use, and one without those it needs.

    transformers ignores the first without a message, and if half of a weight is missing, it fills that half with zeros.
    """
    used = _used(hf, architecture)
    unused = {key for key in tensors if key not in used and not _turns_nothing(key, tensors[key])}
    tied = {"output.weight"} if hf.config.tie_word_embeddings else set()
    check_used(unused, used - tensors.keys() - tied, f"a {hf.config.model_type} of its sizes", name)


def _used(hf: Any, architecture: str) -> set[str]:
    """The names that transformers looks for in a file of this model."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=hf.config.to_dict())
    # Without children, since the function makes another table of names for each of them, and that of the model has all names.
    shallow = SimpleNamespace(config=hf.config, state_dict=hf.state_dict, named_children=lambda: ())
    names: Iterable[str] = get_gguf_hf_weights_map(shallow, processor)
    # The weights of all experts of a layer are one parameter, which has no .weight in transformers.
    return {f"{key}.weight" if key.endswith("_exps") else key for key in names}


def _turns_nothing(key: str, tensor: Any) -> bool:
    """Whether this tensor has factors of rotary frequencies that are all 1; transformers multiplies by none."""
    from gguf import dequantize

    return key.endswith("rope_freqs.weight") and bool((dequantize(tensor.data, tensor.tensor_type) == 1).all())


def _tokenizer(location: Mapping[str, Any], reader: Any, name: str) -> Any:
    from transformers import AutoTokenizer

    if value(reader, "tokenizer.ggml.model") is None:
        return None
    try:
        return AutoTokenizer.from_pretrained(**location)
    except Exception as error:
        return ModelError(
            f"transformers cannot read the tokenizer in {name} ({_short(error)}); give one: ct.load(..., tokenizer=...)"
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
