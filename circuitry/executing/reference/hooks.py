"""The reference's runs: a stock model in plain PyTorch hooks that record every node and edit some, with its own attention and recurrences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...native.first_value import FirstValue
from .naive import attention
from .names import Naive, names_of

Key: TypeAlias = tuple[str, tuple[int, ...], str]
"""Family, indices, port: ("head", (1, 0), "q")."""
Edit: TypeAlias = Callable[[Tensor, int | None], Tensor]
"""From a value [batch, pos, ...] and None, or from a state [batch, ...] and its position, to the value that replaces it."""
Edits: TypeAlias = Mapping[Key, Edit]
See: TypeAlias = Callable[..., Tensor]
Values: TypeAlias = dict[Key, Tensor]


def unedited(key: Key) -> Key:
    """The key of what a node was before it was edited.

    >>> unedited(("head", (1, 0), "q"))
    ('head', (1, 0), 'q unedited')
    """
    return *key[:2], f"{key[2]} unedited"


class Reference:
    """Runs a model with some nodes edited and all nodes recorded. Values are [batch, pos, ...]; a state's is [batch, pos, d_inner, d_state]."""

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.names = names_of(hf.config.model_type)
        self.parallel = any(getattr(hf.config, name, False) for name in ("use_parallel_residual", "parallel_attn"))

    @torch.no_grad()
    def run(self, ids: Tensor, edits: Edits) -> Values:
        """Every node's value in one forward pass on ``ids`` [batch, pos], with ``edits`` applied as they come by.

        What an edited node was before that is there too, under its key as ``unedited`` names it.
        """
        values: Values = {}

        def pass_through(key: Key, value: Tensor, at: int | None = None) -> Tensor:
            if key in edits:  # a copy, since an edit writes into what it is given, and the model may use the tensor elsewhere
                keep(unedited(key), value, at)
                value = edits[key](value.clone(), at)
            keep(key, value, at)
            return value

        def keep(key: Key, value: Tensor, at: int | None) -> None:
            if at is None:
                values[key] = value.detach().clone()
            else:
                values[key] = torch.cat([values[key], value[:, None]], 1) if at else value[:, None].clone()

        with ExitStack() as stack:
            self._hook(stack, pass_through, len(ids))
            pass_through(("logits", (), ""), self.hf(ids, use_cache=False).logits)
        return values

    def _hook(self, stack: ExitStack, see: See, rows: int) -> None:
        def output(module: Any, key: Key) -> None:
            def hook(_: Any, __: Any, out: Any) -> Any:
                return (see(key, out[0]), *out[1:]) if isinstance(out, tuple) else see(key, out)

            stack.callback(module.register_forward_hook(hook).remove)

        def entry(module: Any, key: Key) -> None:
            def hook(_: Any, args: Any, kwargs: Any) -> Any:
                if args:
                    return (see(key, args[0]), *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": see(key, kwargs["hidden_states"])}

            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

        def equations(module: Any, number: int, naive: Naive) -> None:
            """Replace the block's output by what its equations give, whatever it computed."""

            def hook(m: Any, args: Any, kwargs: Any, out: Any) -> Any:
                shared = (arg for arg in args[1:] if isinstance(arg, FirstValue))
                result = naive(m, args[0] if args else kwargs["hidden_states"], number, see, *shared)
                return (result, *out[1:]) if isinstance(out, tuple) else result

            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

        names = self.names
        output(self.hf.get_submodule(names.embed), ("embed", (), ""))
        layers, numbers = self.hf.get_submodule(names.layers), dict[Any, int]()
        for number, layer in enumerate(layers):
            entry(layer, ("resid", (number,), ""))
            names = next((other for part, other in self.names.instead.items() if hasattr(layer, part)), self.names)
            for described, (family, naive) in names.mixers.items():
                name, _, kind = described.partition("/")
                mixer = _inner(layer, name)
                if mixer is None or kind not in ("", type(mixer).__name__):
                    continue  # a hybrid's layer has one of them
                if naive is not None:
                    equations(mixer, number, naive)
                elif names.gated:
                    stack.callback(mixer.q_proj.register_forward_hook(_gates(number, mixer.head_dim, see)).remove)
                if family == "mlp":
                    _router(stack, mixer, ("router", (number,), ""), see, rows)
                output(_inner(layer, names.after.get(name, name)), (family, (number,), ""))
                numbers[mixer] = number
            if names.middle and not self.parallel:
                _around(stack, layer, getattr(layer, names.middle), ("resid_mid", (number,), ""), see)
            if names.mlp:
                output(getattr(layer, names.after.get(names.mlp, names.mlp)), ("mlp", (number,), ""))
                _router(stack, getattr(layer, names.mlp), ("router", (number,), ""), see, rows)
        entry(self.hf.get_submodule(names.norm), ("resid", (len(layers),), ""))
        if any(naive is None for _, naive in names.mixers.values()):
            self._own_attention(stack, see, numbers)

    def _own_attention(self, stack: ExitStack, see: See, numbers: Mapping[Any, int]) -> None:
        """Swap transformers' attention function for ours, one head at a time; ``numbers`` are the layers of attention modules."""
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        def attend(
            module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
            scaling: float | None = None, softcap: float | None = None, s_aux: Tensor | None = None, **_: Any,
        ) -> Any:  # fmt: skip
            return attention.attend(module, q, k, v, mask, scaling, softcap, s_aux, see, numbers[module]), None

        AttentionInterface.register("circuitry_reference", attend)
        AttentionMaskInterface.register("circuitry_reference", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        before = self.hf.config._attn_implementation
        self.hf.set_attn_implementation("circuitry_reference")
        stack.callback(self.hf.set_attn_implementation, before)


def _inner(layer: Any, path: str) -> Any:
    """The module at a dotted path in a layer; None if there is none."""
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return layer


def _gates(layer: int, width: int, see: See) -> Callable[..., Tensor]:
    """A hook after a query projection: each head has a query of ``width`` numbers, then a gate of as many."""

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        parts = list(out.split(width, -1))  # type: ignore[no-untyped-call]
        for head in range(len(parts) // 2):
            parts[2 * head + 1] = see(("attn_gate", (layer, head), ""), parts[2 * head + 1])
        return torch.cat(parts, -1)

    return hook


def _router(stack: ExitStack, mlp: Any, key: Key, see: See, rows: int) -> None:
    """Compute every expert for every token, each with the weight that it has for that token: 0 if it was not chosen."""

    def hook(_: Any, __: Any, out: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits, weights, indices = out
        full = torch.zeros(logits.shape, dtype=weights.dtype, device=weights.device)
        for token in range(len(full)):
            for weight, expert in zip(weights[token], indices[token], strict=True):
                full[token, expert] = weight
        full = see(key, full.view(rows, -1, full.shape[-1])).view(full.shape)
        return logits, full, torch.arange(full.shape[-1], device=full.device).expand(full.shape)

    if hasattr(mlp, "experts"):
        chooser = mlp.gate if hasattr(mlp, "gate") else mlp.router
        stack.callback(chooser.register_forward_hook(hook).remove)


def _around(stack: ExitStack, layer: Any, norm: Any, key: Key, see: See) -> None:
    """The stream in the middle of a layer: a change there goes into the MLP and, past it, into the layer's output."""
    moved: list[Tensor] = []

    def into(_: Any, args: tuple[Tensor]) -> Tensor:
        value = see(key, args[0])
        moved[:] = [value - args[0]]
        return value

    def out(_: Any, __: Any, out: Any) -> Any:
        return (out[0] + moved[0], *out[1:]) if isinstance(out, tuple) else out + moved[0]

    stack.callback(norm.register_forward_pre_hook(into).remove)
    stack.callback(layer.register_forward_hook(out).remove)
