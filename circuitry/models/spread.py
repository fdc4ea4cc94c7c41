"""Models larger than one device: accelerate keeps their blocks on several devices or on disk, and we find their weights by name."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..errors import CircuitryError, ModelError, suggest

DeviceMap = str | Mapping[str, str | int | torch.device]
_INFERRED = ("auto", "balanced", "balanced_low_0", "sequential")


def spread(hf: Any, device_map: DeviceMap) -> Any:
    """Put a module's blocks where ``device_map`` says: "auto" and the like, one device, or {name of a part: device or "disk"}.

    Weights on disk are written to a temporary folder (set by TMPDIR), which lasts as long as the module. The weights of a block
    are fetched together when it runs, since instrumentation reads some weights without calling the module that holds them.

    Raises ModelError if accelerate is not installed, and CircuitryError for a map that leaves out a part or divides a block.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox", device_map={"": "cpu", "gpt_neox.layers.1": "disk"})
    >>> model.hf.gpt_neox.layers[1].mlp.dense_h_to_4h.weight.device, model.device
    (device(type='meta'), device(type='cpu'))
    """
    if find_spec("accelerate") is None:
        raise ModelError("device_map needs accelerate: pip install 'circuitry-lm[big]'")
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_submodules

    blocks = _blocks(hf)
    places = _apart(hf, _places(hf, device_map), blocks)
    try:
        with _silent():
            dispatch_model(
                hf,
                places,
                offload_dir=_folder(hf) if "disk" in places.values() else None,
                skip_keys=hf._skip_keys_device_placement,
                preload_module_classes=sorted({type(block).__name__ for block in blocks.values()}),
            )
    except (ValueError, RuntimeError, AssertionError) as error:
        raise CircuitryError(f"device_map cannot be followed: {str(error).splitlines()[0]}") from error
    for block in blocks.values():  # a block is on one device, so its parts need no hooks that move tensors
        for part in block.children():
            remove_hook_from_submodules(part)
            for module in part.modules():
                vars(module).pop("forward", None)  # removing a hook leaves the forward on the instance, where it would hide ours
    return hf


def input_device(hf: Any) -> torch.device:
    """The device for token ids: where the embedding runs. Its weights are elsewhere if they are fetched only when they are used.

    >>> input_device(torch.nn.Linear(2, 2))
    device(type='cpu')
    """
    entries = (hf.get_input_embeddings(), hf) if hasattr(hf, "get_input_embeddings") else (hf,)
    runs_on = (getattr(hook, "execution_device", None) for part in entries for hook in _hooks(part))
    device = next((device for device in runs_on if device is not None), None)
    return next(hf.parameters()).device if device is None else torch.device(device)


def is_spread(hf: Any) -> bool:
    """Whether accelerate moves tensors or weights between devices while the module runs.

    >>> is_spread(torch.nn.Linear(2, 2))
    False
    """
    return any(_hooks(module) for module in hf.modules())


def stored(hf: Any) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a module by name, one after another, also those that stay on disk or in memory until they are used.

    Raises ModelError for a weight without values.

    >>> [(name, tuple(value.shape)) for name, value in stored(torch.nn.Linear(2, 3))]
    [('weight', (3, 2)), ('bias', (3,))]
    """
    for name, value in hf.state_dict().items():
        yield name, _fetched(hf, name) if value.is_meta else value


def check_fetched(hf: Any) -> None:
    """Refuse a module that accelerate has spread and that has weights without values. Raises ModelError.

    >>> check_fetched(torch.nn.Linear(2, 2, device="meta"))
    Traceback (most recent call last):
    circuitry.errors.ModelError: weight has no values (it is on the device 'meta'), and accelerate keeps none for it
    """
    for name, value in hf.state_dict().items():
        if value.is_meta:
            _keeper(hf, name)


def check_together(blocks: Iterable[Any]) -> None:
    """Refuse blocks whose weights are fetched one module at a time: our forward reads some without calling their module.

    Raises ModelError that says how to fetch them together.

    >>> check_together([torch.nn.Linear(2, 2)])
    """
    for block in blocks:
        hooks = (hook for module in block.modules() if module is not block for hook in _hooks(module))
        if any(getattr(hook, "offload", False) for hook in hooks):
            kind = type(block).__name__
            raise ModelError(
                f"the weights of a {kind} are fetched one by one, but are needed together; use ct.load(NAME, device_map=...) or "
                f"accelerate.dispatch_model(..., preload_module_classes=[{kind!r}])"
            )


def _fetched(hf: Any, name: str) -> Tensor:
    weights, key = _keeper(hf, name)
    value: Tensor = weights[key]
    return value


def _keeper(hf: Any, name: str) -> tuple[Mapping[str, Tensor], str]:
    """The weights of the hook that fetches this one, and its name among them. The hook is on its module or on one around it."""
    parts = name.split(".")
    # From the innermost module outwards. A hook on an outer module has this weight only if it places submodules.
    for cut in range(len(parts) - 1, -1, -1):
        for hook in _hooks(hf.get_submodule(".".join(parts[:cut]))):
            if getattr(hook, "offload", False) and (cut == len(parts) - 1 or hook.place_submodules):
                return hook.weights_map, ".".join(parts[cut:])
    raise ModelError(f"{name} has no values (it is on the device 'meta'), and accelerate keeps none for it")


def _hooks(module: Any) -> list[Any]:
    """accelerate's hooks on a module itself."""
    hook = vars(module).get("_hf_hook")
    return [] if hook is None else list(getattr(hook, "hooks", [hook]))


def _blocks(hf: Any) -> dict[str, Any]:
    """The outermost modules that must stay in one piece, by name: the layers."""
    blocks: dict[str, Any] = {}
    for name, module in hf.named_modules():
        if type(module).__name__ in (hf._no_split_modules or ()) and not any(name.startswith(f"{outer}.") for outer in blocks):
            blocks[name] = module
    return blocks


def _places(hf: Any, device_map: DeviceMap) -> dict[str, Any]:
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    if not isinstance(device_map, str):
        return dict(device_map)
    if device_map not in _INFERRED:
        return {"": device_map}
    unsplit = list(hf._no_split_modules or ())
    memory = (
        get_max_memory()
        if device_map == "sequential"
        else get_balanced_memory(hf, no_split_module_classes=unsplit, low_zero=device_map == "balanced_low_0")
    )
    return dict(infer_auto_device_map(hf, memory, no_split_module_classes=unsplit))


def _apart(hf: Any, places: Mapping[str, Any], blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The place of every block, and of every module outside the blocks that holds weights. The longest name in the map counts."""
    for key in places:
        if block := next((block for block in blocks if key.startswith(f"{block}.")), None):
            raise CircuitryError(f"device_map divides {block}; place it as a whole, on one device")
    names = [name for values in (hf.named_parameters, hf.named_buffers) for name, _ in values(remove_duplicate=False)]
    placed, used = dict[str, Any](), set[str]()
    for name in names:
        around = [key for key in places if not key or f"{name}.".startswith(f"{key}.")]
        if not around:
            raise CircuitryError(f"device_map does not place {name}; add it, or use '' for everything that is not named")
        used.update(around)
        part = next((block for block in blocks if name.startswith(f"{block}.")), name.rpartition(".")[0])
        placed[part] = places[max(around, key=len)]
    if unused := sorted(places.keys() - used):
        raise CircuitryError(
            f"device_map names {unused[0]!r}, which is not a part of the model; {suggest(unused[0], _parts(names))}"
        )
    return placed


def _parts(names: Iterable[str]) -> set[str]:
    """The names of all modules that contain weights."""
    return {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}


def _folder(hf: Any) -> str:
    """A folder that is removed with the module."""
    folder = tempfile.mkdtemp(prefix="circuitry-")
    weakref.finalize(hf, shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _silent() -> Iterator[None]:
    """Silence accelerate's warning about weights on the meta device: a device map asks for them."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
