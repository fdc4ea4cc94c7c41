"""Reading and writing at a place inside a trace, and the order in which the model gets to its places: for patching, reading and splicing alike."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from ..architecture.families import Place
from ..errors import GuardError
from ..models.model import Model

_LOCK = threading.Lock()
_ORDERS: weakref.WeakKeyDictionary[Model, dict[tuple[str, str], int]] = weakref.WeakKeyDictionary()


@contextmanager
def alone(model: Model, stops: tuple[int, ...], *, gradients: bool = False) -> Iterator[None]:
    """Within this context no other trace runs, gradients are kept only if asked for, and recurrent layers stop at these positions.

    nnsight allows one trace at a time. Raises GuardError if the trace waited for a place that was never reached.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> with alone(model, (3,)):
    ...     print(model.mixers[0].circuitry.stops)
    (3,)
    """
    with _LOCK, torch.set_grad_enabled(gradients):
        for mixer in model.mixers:
            mixer.circuitry.stops = stops
        try:
            yield
        except OutOfOrderError as error:
            raise GuardError(f"a place was never reached ({error}); no result is reported") from error
        finally:
            for mixer in model.mixers:
                mixer.circuitry.stops = ()


def raw_value(net: Any, tracer: Any, place: Place) -> Any:
    """Inside a trace: what a module is given or returns; of the model itself, what comes out at the very end.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> import nnsight
    >>> with model.net.trace(torch.zeros(1, 2, dtype=int), use_cache=False) as tracer:
    ...     block = nnsight.save(raw_value(model.net, tracer, Place("backbone.layers.0")))
    ...     logits = nnsight.save(tensor_of(raw_value(model.net, tracer, Place(""))))
    >>> tuple(block.shape), tuple(logits.shape)
    ((1, 2, 128), (1, 2, 2048))
    """
    return getattr(net.get(place.module), place.io) if place.module else tracer.result


def tensor_of(raw: Any) -> Tensor:
    """The tensor in what a module returns: a model's logits, the first of a tuple, or the value itself.

    >>> tensor_of((torch.ones(2), None))
    tensor([1., 1.])
    """
    value: Tensor = raw.logits if hasattr(raw, "logits") else raw[0] if isinstance(raw, tuple | list) else raw
    return value


def play(
    net: Any, tracer: Any, stops: Sequence[tuple[Place, int]], act: Callable[[int, Tensor], tuple[Tensor | None, Tensor]]
) -> dict[int, Tensor]:
    """Inside a trace: stop by stop (a place, and which of its calls), in execution order.

    ``act`` is given the number of a stop and the value there, and returns what to write there (None: nothing) and what to keep. A place
    that is not reached ends the loop without an error, so the caller counts what comes back.

    >>> import circuitry as ct
    >>> import nnsight
    >>> model = ct.load("bundled:mamba")
    >>> with model.net.trace(torch.zeros(1, 2, dtype=int), use_cache=False) as tracer:
    ...     got = nnsight.save(play(model.net, tracer, [(Place("backbone.norm_f"), 0)], lambda number, value: (None, value)))
    >>> tuple(got[0].shape)
    (1, 2, 128)
    """
    got: dict[int, Tensor] = {}
    for number, (place, occurrence) in enumerate(stops):
        for _ in tracer.iter[occurrence]:
            raw = raw_value(net, tracer, place)
            changed, got[number] = act(number, tensor_of(raw))
            if changed is not None:
                write(net, place, raw, changed)
    return got


def write(net: Any, place: Place, raw: Any, changed: Tensor) -> None:
    """Inside a trace: put ``changed`` in the place of what was there, ``raw``.

    >>> import circuitry as ct
    >>> model, place = ct.load("bundled:mamba"), Place("backbone.norm_f")
    >>> import nnsight
    >>> with model.net.trace(torch.zeros(1, 2, dtype=int), use_cache=False) as tracer:
    ...     raw = raw_value(model.net, tracer, place)
    ...     write(model.net, place, raw, torch.zeros_like(raw))
    ...     logits = nnsight.save(tracer.result.logits)
    >>> bool((logits == 0).all())
    True
    """
    if place.io == "input":
        # In place: the stream that goes around a norm is the tensor that goes into it, and with another tensor in its stead
        # only the way through the block would change.
        tensor_of(raw).copy_(changed)
    else:
        net.get(place.module).output = type(raw)((changed, *raw[1:])) if isinstance(raw, tuple | list) else changed


def turn(place: Place, occurrence: int, order: Mapping[tuple[str, str], int]) -> tuple[int, int, int]:
    """The key that sorts places in execution order.

    Hook points of a state take turns, one round per stop; all others are called once.

    >>> turn(Place("h.0", "input"), 0, {("h.0", "input"): 3})
    (3, 0, 0)
    """
    rank = order[place.module, place.io]
    if place.position is not None:
        return rank, 0, 0
    points = place.module.rsplit(".", 1)[0]
    return order[f"{points}.state", "output"], occurrence, rank


def execution_order(model: Model) -> dict[tuple[str, str], int]:
    """The order of all modules' inputs and outputs in a forward pass, found by running one.

    >>> import circuitry as ct
    >>> order = execution_order(ct.load("bundled:mamba"))
    >>> order["backbone.layers.0", "input"] < order["lm_head", "output"] < order["", "output"]
    True
    """
    if model in _ORDERS:
        return _ORDERS[model]
    order: dict[tuple[str, str], int] = {}
    hooks: list[Any] = []

    def note(name: str, io: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            order.setdefault((name, io), len(order))

        return hook

    for name, module in model.hf.named_modules():
        hooks.append(module.register_forward_pre_hook(note(name, "input")))
        hooks.append(module.register_forward_hook(note(name, "output")))
    for mixer in model.mixers:
        mixer.circuitry.stops = (0,)
    try:
        with torch.no_grad():
            model.hf(torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        for mixer in model.mixers:
            mixer.circuitry.stops = ()
    _ORDERS[model] = order
    return order
