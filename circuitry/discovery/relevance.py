"""Layer-wise relevance propagation as a changed backward pass: rules at a model's modules, while values stay what they are.

The rules are those of RelP (Jafari et al. 2025, arXiv:2508.21258) for Transformers and of MambaLRP (Jafari et al. 2024,
arXiv:2406.07592) for states, also those of the gated delta rule and of RWKV-7. No paper gives any for RWKV-4: here its gates are constant, since a sigmoid cannot be a share of its input
(Arras et al. 2019), its keys weigh a mean as attention patterns do, and the square of a ReLU is shared out like an activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CircuitryError
from ..models.delta_projections import output_of
from ..models.model import Model
from .norms import frozen

CONSTANT = ("write_delta", "write_B", "C", "query", "write_key", "write_erase", "write_step", "write_rate", "write_decay")
"""Hook points of Mamba, Mamba-2 and the gated delta rule whose values are constants of the scan: it is linear in the values."""

RWKV7_CONSTANT = ("query", "write_key", "write_probe", "write_erase", "write_decay", "strength", "amount", "gate")
"""The same of RWKV-7, whose bonus and mix with layer 0's values are linear in the values, too."""


class _Scaled(torch.autograd.Function):
    """``value`` itself, whose gradient with respect to ``x`` is that with respect to ``value`` times ``factor``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None


def identity(activation: nn.Module) -> Callable[..., Tensor]:
    """A forward hook: the gradient of an activation is its output over its input, held constant; at 0, its derivative.

    Raises CircuitryError for an activation that is not 0 at 0.

    >>> silu, x = nn.SiLU(), torch.tensor([2.0, 0.0], requires_grad=True)
    >>> handle = silu.register_forward_hook(identity(silu))
    >>> silu(x).sum().backward()
    >>> bool(torch.allclose(x.grad, torch.sigmoid(x)))
    True
    """
    zero = torch.zeros(1, requires_grad=True)
    with torch.enable_grad():
        value = activation(zero)
    if value.item() != 0:
        raise CircuitryError(
            f"relevance cannot pass through {type(activation).__name__}: the identity rule is for activations that are 0 at 0; "
            "use method='block-ig'"
        )
    slope = torch.autograd.grad(value, zero)[0].item()

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        x = inputs[0].detach()
        factor = torch.where(x == 0, slope, value.detach() / torch.where(x == 0, 1, x))
        return _Scaled.apply(inputs[0], value, factor)  # type: ignore[no-untyped-call,no-any-return]

    return hook


def half(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook before a forward: half of the gradient goes to what was given, such as a product of two, each of which gets it all.

    >>> layer, x = nn.Linear(1, 1), torch.ones(1, requires_grad=True)
    >>> handle = layer.register_forward_pre_hook(half)
    >>> layer(x).backward()
    >>> bool(x.grad * 2 == layer.weight)
    True
    """
    return (_Scaled.apply(inputs[0], inputs[0], inputs[0].new_tensor(0.5)), *inputs[1:])  # type: ignore[no-untyped-call]


def constant(_: nn.Module, __: tuple[Tensor, ...], value: Tensor) -> Tensor:
    """A forward hook: a value without a gradient.

    >>> constant(nn.Identity(), (), torch.ones(1, requires_grad=True)).requires_grad
    False
    """
    return value.detach()


@contextmanager
def rules(model: Model, constant_patterns: bool = False) -> Iterator[None]:
    """Within this context the model's backward pass follows the rules; its values are the same, bit for bit.

    ``constant_patterns``: attention patterns, and the weights of RWKV's means, are constants too. Raises CircuitryError for a model with a part that no rule fits.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> with rules(model):
    ...     len(model.mixers[0].circuitry.C._forward_hooks) > 0
    True
    """
    with ExitStack() as stack:
        for module, kind, hook in _hooks(model, constant_patterns):
            register = module.register_forward_pre_hook if kind == "input" else module.register_forward_hook
            stack.callback(register(hook).remove)
        yield


def _hooks(model: Model, constant_patterns: bool) -> Iterator[tuple[Any, str, Any]]:
    """Modules, whether their input or their output is given to a hook, and the hooks."""
    _check_mlps(model)
    for module in model.hf.modules():
        if _is_norm(module):
            yield module, "output", frozen(module)
        elif _is_activation(module):
            yield module, "output", identity(module)
        elif any(map(_is_activation, module.children())):
            yield from _of_gate(module)
        points = getattr(module, "circuitry", None)
        if points is not None:
            yield from _of_points(module, points, constant_patterns)


def _of_points(module: Any, points: Any, constant_patterns: bool) -> Iterator[tuple[Any, str, Any]]:
    """The rules at the hook points of one instrumented module."""
    names: tuple[str, ...] = ()
    if hasattr(points, "pattern"):
        names = ("pattern",) if constant_patterns else ()
    elif hasattr(points, "recurrent_gate"):
        names = ("input_gate", "recurrent_gate")
        yield module.linear_out, "input", half
    elif hasattr(points, "ssm_out"):
        names = tuple(name for name in CONSTANT if hasattr(points, name))
        if points.silu is None:  # the gate is a sigmoid
            names += ("gate",)
        else:
            yield output_of(module), "input", half
    elif hasattr(points, "bonus"):
        names = RWKV7_CONSTANT
    elif hasattr(points, "wkv_out"):
        names = ("gate", "key") if constant_patterns else ("gate",)
    elif hasattr(points, "hidden"):
        names = ("gate",) if hasattr(points, "gate") else ()
        yield points.hidden, "input", half  # a square over its input is half its derivative
    elif hasattr(points, "gate"):  # attention's, before a sigmoid
        names = ("gate",)
    for name in names:
        yield getattr(points, name), "output", constant


def _of_gate(module: Any) -> Iterator[tuple[Any, str, Any]]:
    """The half rule where an activation is multiplied by another layer's output, which shows in the layers' sizes."""
    if hasattr(module, "circuitry") or hasattr(module, "conv_tap"):  # a mixer, which has rules of its own
        return
    layers = [(layer, size) for layer in module.children() if (size := _sizes(layer))]
    if len(layers) > 1 and not list(module.parameters(recurse=False)):  # experts hold their weights themselves
        last, (width, _) = layers[-1]
        made = sum(size[1] for _, size in layers[:-1])
        if made == width:
            return
        if made == 2 * width:
            yield last, "input", half
            return
    raise CircuitryError(
        f"relevance cannot pass through {type(module).__name__}: no rule is known for it but for one layer, an activation, "
        "perhaps a gate, and another layer; use method='block-ig'"
    )


def _sizes(layer: Any) -> tuple[int, int] | None:
    """How many numbers a linear layer takes and gives; None for another module."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return (layer.nx, layer.nf) if type(layer).__name__ == "Conv1D" else None


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _is_activation(module: nn.Module) -> bool:
    from transformers.activations import ACT2CLS

    kinds = tuple(kind[0] if isinstance(kind, tuple) else kind for kind in ACT2CLS.values())
    return isinstance(module, (*kinds, nn.GELU)) or type(module).__name__ == "BloomGelu"


def _check_mlps(model: Model) -> None:
    """Every MLP must have an activation that a rule can be placed at."""
    for node in model.graph.nodes():
        if model.graph.family(node.family).role == "mlp":
            mlp = model.hf.get_submodule(model.graph.block(node))
            if not hasattr(mlp, "circuitry") and not any(map(_is_activation, mlp.modules())):
                raise CircuitryError(
                    f"relevance cannot pass through {type(mlp).__name__} of {node}: its activation is not a module; use method='block-ig'"
                )
