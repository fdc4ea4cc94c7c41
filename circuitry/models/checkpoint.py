"""The weights of a Hugging Face model in a folder or on the Hub: which files hold them, and which checkpoints are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ModelError
from ..native.build import tensors
from ..native.find import how_to_convert
from ..native.own import config_class
from .hub import cache

SINGLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
_DEQUANTISING = {"compressed-tensors": "CompressedTensorsConfig", "fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""Quantisations that transformers can undo while it loads, and the config class that asks for it."""


@dataclass(frozen=True)
class Source:
    """A folder, or a name on the Hugging Face Hub with the ``revision`` (a branch, tag or commit; None for the default branch).

    ``unreachable`` says why nothing can be downloaded; then only files that the Hub's client has in its cache are read.
    """

    where: str
    name: str
    revision: str | None = None
    unreachable: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of transformers that say which revision is meant, and whether anything may be downloaded.

        >>> Source("owner/name", "it", "main", "HF_HUB_OFFLINE is set").asked
        {'revision': 'main', 'local_files_only': True}
        """
        return {"revision": self.revision, "local_files_only": bool(self.unreachable)}

    def file(self, name: str) -> Path | None:
        """One of its files, downloaded if necessary, or None if it has no such file.

        >>> Source(str(Path(__file__).parent), "models").file("config.json") is None
        True
        """
        from transformers.utils import cached_file

        if self.folder:
            path = Path(self.where) / name
            return path if path.is_file() else None
        cached = cached_file(self.where, name, **self.asked, _raise_exceptions_for_missing_entries=False)
        return None if cached is None else Path(cached)

    @property
    def folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return Path(self.where).is_dir()

    @property
    def commit(self) -> str | None:
        """The commit on the Hub from which its files come; None for a folder."""
        # The Hub's client stores the files of a commit in a folder with the commit's name.
        file = None if self.folder else self.file("config.json")
        return None if file is None else next((part for part in file.parts if re.fullmatch("[0-9a-f]{40}", part)), None)

    def check_no_adapter(self) -> None:
        """Refuse an adapter, alone or beside the model it changes. Raises ModelError that says how to merge it."""
        try:
            file = self.file(ADAPTER)
        except OSError:  # it cannot be reached; reading the config says so
            return
        if file is not None:
            raise ModelError(
                f"{self.name} holds an adapter ({ADAPTER}), which changes the weights of its base{_base(file)}; merge the two once: "
                f"peft.AutoPeftModelForCausalLM.from_pretrained({self.where!r}).merge_and_unload().save_pretrained('NEW_FOLDER')"
            )

    def config(self, offline: str = "") -> Any:
        """The config that transformers reads from its config.json.

        Raises ModelError. If the name could not be downloaded from the Hub, the message ends with ``offline``.
        """
        from huggingface_hub.errors import StrictDataclassError
        from transformers import PreTrainedConfig

        if self.folder and self.file("config.json") is None:
            raise ModelError(f"{self.name} is a folder without config.json, so it is not a Hugging Face model")
        try:
            settings, _ = PreTrainedConfig.get_config_dict(self.where, **self.asked)
            kind = config_class(settings.get("model_type"))
            return kind.from_pretrained(self.where, **self.asked, trust_remote_code=False)
        except (OSError, ValueError, StrictDataclassError) as error:
            first = (
                " ".join(str(error).split()) if isinstance(error, StrictDataclassError) else str(error).strip().splitlines()[0]
            )
            if self.folder:
                raise ModelError(f"{self.name} holds no model that transformers knows: {first}") from error
            reason = f"{self.unreachable}, and {cache()} does not hold it" if self.unreachable else first
            raise ModelError(
                f"{self.name!r} could not be loaded: it is not a folder, and it could not be downloaded from the Hugging Face Hub ({reason}). {offline}"
            ) from error

    def weights(self, config: Any) -> dict[str, Tensor]:
        """Every weight, by its name in the file.

        Raises ModelError if safetensors are missing, if nothing says which files belong together, or if one of these is missing.
        """
        if (file := getattr(config, "transformers_weights", None)) not in (None, SINGLE, INDEX):
            raise ModelError(
                f"config.json of {self.name} says that its weights are in {file}; circuitry reads {SINGLE} or {INDEX}"
            )
        single, index = self.file(SINGLE), self.file(INDEX)
        if index is not None:
            return self._sharded(index, single)
        if single is None:
            raise ModelError(f"no safetensors weights for {self.name!r}{self._instead()}")
        self._check_no_others({SINGLE})
        return merged([single], tensors, self.name)

    def _sharded(self, index: Path, single: Path | None) -> dict[str, Tensor]:
        try:
            names: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = sorted(set(names.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{INDEX} of {self.name} cannot be read: it has no weight_map ({error})") from error
        if single is not None and files != [SINGLE]:
            raise ModelError(
                f"{self.name} has {SINGLE} and {INDEX}, which names other files; remove the file that does not belong to it"
            )
        self._check_no_others(set(files))
        weights = merged([self._shard(file) for file in files], tensors, self.name)
        if lacking := sorted(set(names) - set(weights)):
            raise ModelError(f"{INDEX} of {self.name} names {lacking[0]}, which {names[lacking[0]]} does not hold")
        return weights

    def _shard(self, name: str) -> Path:
        if (file := self.file(name)) is None:
            raise ModelError(f"{INDEX} of {self.name} names {name}, which is missing")
        return file

    def _check_no_others(self, used: set[str]) -> None:
        """Refuse parts of another checkpoint, which remain when one checkpoint is written over another."""
        others = sorted({path.name for path in Path(self.where).glob("model-*-of-*.safetensors")} - used) if self.folder else []
        if others:
            problem = f"not named by {INDEX}" if INDEX not in used and SINGLE not in used else f"beside {SINGLE}"
            raise ModelError(f"{self.name} holds {others[0]}, {problem}; remove the weights that do not belong to it")

    def _instead(self) -> str:
        names = sorted(path.name for path in Path(self.where).glob("*.safetensors")) if self.folder else []
        if names:
            return f": {', '.join(names[:3])} cannot be read without {INDEX}, which says what belongs together"
        if self.unreachable:
            return f": {self.unreachable}, and {cache()} does not hold them"
        if not self.folder:
            return "; pickled weights are not loaded; if a pull request has safetensors, load it with revision='refs/pr/NUMBER'"
        pickled = any(Path(self.where).glob("pytorch_model*.bin"))
        return "; pickled weights are not loaded" + (f"; {how_to_convert(self.name)}" if pickled else "")


def merged(files: Iterable[Path], read: Callable[[Path], dict[str, Tensor]], name: str) -> dict[str, Tensor]:
    """The weights of several files together. Raises ModelError if two files hold a weight of the same name.

    >>> merged([Path("a"), Path("b")], lambda file: {"w": Tensor()}, "it")
    Traceback (most recent call last):
    circuitry.errors.ModelError: it has w in two files, one of them b; remove the file that does not belong to it
    """
    weights: dict[str, Tensor] = {}
    for file in files:
        part = read(file)
        if twice := sorted(weights.keys() & part.keys()):
            raise ModelError(
                f"{name} has {twice[0]} in two files, one of them {file.name}; remove the file that does not belong to it"
            )
        weights |= part
    return weights


def check_not_quantised(config: Any, name: str) -> None:
    """Refuse a quantised checkpoint before transformers asks for its package. Raises ModelError that says what to do.

    >>> from transformers import GPT2Config
    >>> check_not_quantised(GPT2Config(quantization_config={"quant_method": "gptq"}), "it")
    Traceback (most recent call last):
    circuitry.errors.ModelError: it is quantised (gptq), and circuitry needs the weights as numbers: load the checkpoint that was quantised
    """
    text = config.get_text_config()
    keys = ("quantization_config", "compression_config", "quantization")  # the last is MLX's
    settings = next((value for part in (config, text) for key in keys if (value := getattr(part, key, None))), None)
    if settings is None:
        return
    options = settings if isinstance(settings, dict) else settings.to_dict()
    method = str(options.get("quant_method") or options.get("format") or "unknown method")
    raise ModelError(
        f"{name} is quantised ({method}), and circuitry needs the weights as numbers: load the checkpoint that was quantised"
        f"{_dequantise(method, name)}"
    )


def _dequantise(method: str, name: str) -> str:
    """How transformers turns a quantised checkpoint into an ordinary one; empty for methods it cannot undo."""
    options, undo = "", ""
    if method in _DEQUANTISING:
        options = f", quantization_config={_DEQUANTISING[method]}(dequantize=True)"
    elif method in ("bitsandbytes", "higgs"):
        undo = ".dequantize()"
    else:
        return ""
    return f", or write it out once: AutoModelForCausalLM.from_pretrained({name!r}{options}){undo}.save_pretrained('NEW_FOLDER')"


def _base(file: Path) -> str:
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        return ""
    return f", {base}" if base else ""
