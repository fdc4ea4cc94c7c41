"""The independent reference: one path, one cell, pass after pass in plain PyTorch hooks, everything stored, nothing clever.

It shares no code with the planner or the nnsight driver: it reads the path itself, finds modules itself, computes attention and
recurrences itself (``naive``), token by token, and freezes a node by overwriting every one of its stored values. For tests and
for ``verify=``; slow on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...errors import CircuitryError
from ...paths.values import Leg, Node, Path, Position, Site
from .naive import attention, mamba, mamba2, rwkv

Key: TypeAlias = tuple[str, tuple[int, ...], str]
"""Family, indices, port: ("head", (1, 0), "q")."""
Where: TypeAlias = Mapping[str, list[int]]
"""Absolute token position of every named position, one number an example."""
Reading: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""A target's value in the base run, the other run and the patched run."""
Edit: TypeAlias = Callable[[Tensor, int | None], Tensor]
"""From a value [batch, pos, ...] and None, or from a state [batch, ...] and its position, to what takes its place."""
Edits: TypeAlias = Mapping[Key, Edit]
See: TypeAlias = Callable[..., Tensor]
Values: TypeAlias = dict[Key, Tensor]

_SHORT = {"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"}
_WRITERS = ("attn", "mlp", "mixer_out")
Naive: TypeAlias = Callable[[Any, Tensor, int, See], Tensor]


@dataclass(frozen=True)
class _Names:
    """Where a kind of model keeps its modules. ``mixers``: a layer's attribute to the family and the equations of that block,
    None for attention; ``middle`` is the norm before the MLP; ``short`` are the paper's names."""

    embed: str
    layers: str
    norm: str
    mixers: Mapping[str, tuple[str, Naive | None]]
    middle: str = ""
    mlp: str = "mlp"
    short: Mapping[str, str] = field(default_factory=lambda: _SHORT)


_MAMBA = _Names("backbone.embeddings", "backbone.layers", "backbone.norm_f", {"mixer": ("mixer_out", mamba.mixer)})
_GPT2 = _Names("transformer.wte", "transformer.h", "transformer.ln_f", {"attn": ("attn", None)}, "ln_2")
_KINDS = {
    "gpt_neox": _Names(
        "gpt_neox.embed_in",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        {"attention": ("attn", None)},
        "post_attention_layernorm",
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "llama": _Names(
        "model.embed_tokens", "model.layers", "model.norm", {"self_attn": ("attn", None)}, "post_attention_layernorm"
    ),
    "jamba": _Names(
        "model.embed_tokens",
        "model.layers",
        "model.final_layernorm",
        {"self_attn": ("attn", None), "mamba": ("mixer_out", mamba.mixer)},
        "pre_ff_layernorm",
        "feed_forward",
    ),
    "falcon_mamba": _MAMBA,
    "mamba": _MAMBA,
    "mamba2": replace(_MAMBA, mixers={"mixer": ("mixer_out", mamba2.mixer)}),
    "rwkv": _Names(
        "rwkv.embeddings",
        "rwkv.blocks",
        "rwkv.ln_out",
        {"attention": ("mixer_out", rwkv.time_mixing), "feed_forward": ("mlp", rwkv.channel_mixing)},
        "ln2",
        mlp="",
        short={"x": "shift_in", "c": "wkv_in", "h": "wkv_state", "g": "gate", "s": "wkv_out", "o": "mixer_out"},
    ),
}


class Reference:
    """Runs a model with some nodes edited and all nodes recorded. Values are [batch, pos, ...]; a state's is [batch, pos, d_inner, d_state]."""

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.names = _KINDS.get(hf.config.model_type, _KINDS["llama"])
        self.parallel = bool(getattr(hf.config, "use_parallel_residual", False))

    @torch.no_grad()
    def run(self, ids: Tensor, edits: Edits) -> Values:
        """Every node's value in one forward pass on ``ids`` [batch, pos], with ``edits`` applied as they come by."""
        values: Values = {}

        def pass_through(key: Key, value: Tensor, at: int | None = None) -> Tensor:
            if key in edits:
                value = edits[key](value.clone(), at)
            if at is None:
                values[key] = value.detach().clone()
            else:
                values[key] = torch.cat([values[key], value[:, None]], 1) if at else value[:, None].clone()
            return value

        with ExitStack() as stack:
            self._hook(stack, pass_through)
            pass_through(("logits", (), ""), self.hf(ids, use_cache=False).logits)
        return values

    def _hook(self, stack: ExitStack, see: See) -> None:
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
                made = naive(m, args[0] if args else kwargs["hidden_states"], number, see)
                return (made, *out[1:]) if isinstance(out, tuple) else made

            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

        names = self.names
        output(self.hf.get_submodule(names.embed), ("embed", (), ""))
        layers = self.hf.get_submodule(names.layers)
        for number, layer in enumerate(layers):
            entry(layer, ("resid", (number,), ""))
            for attribute, (family, naive) in names.mixers.items():
                if (mixer := getattr(layer, attribute, None)) is None:
                    continue  # a hybrid's layer has one of them
                if naive is not None:
                    equations(mixer, number, naive)
                output(mixer, (family, (number,), ""))
            if names.middle and not self.parallel:
                _around(stack, layer, getattr(layer, names.middle), ("resid_mid", (number,), ""), see)
            if names.middle and names.mlp:
                output(getattr(layer, names.mlp), ("mlp", (number,), ""))
        entry(self.hf.get_submodule(names.norm), ("resid", (len(layers),), ""))
        if any(naive is None for _, naive in names.mixers.values()):
            self._own_attention(stack, see)

    def _own_attention(self, stack: ExitStack, see: See) -> None:
        """Swap transformers' attention function for ours, one head at a time."""
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        def attend(
            module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
            scaling: float | None = None, softcap: float | None = None, **_: Any,
        ) -> Any:  # fmt: skip
            return attention.attend(module, q, k, v, mask, scaling, softcap, see), None

        AttentionInterface.register("circuitry_reference", attend)
        AttentionMaskInterface.register("circuitry_reference", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        before = self.hf.config._attn_implementation
        self.hf.set_attn_implementation("circuitry_reference")
        stack.callback(self.hf.set_attn_implementation, before)


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


def follow(hf: Any, path: Path, base: Tensor, other: Tensor, where: Where) -> Reading:
    """Follow one path without open axes to its first target; arguments and what is returned of it are those of ``follow_all``.

    >>> import circuitry as ct
    >>> model, ids = ct.load("bundled:mamba"), torch.arange(6)[None] + 300
    >>> base, other, patched = follow(model.hf, ct.parse("embed -> logits"), ids, ids + 1, {"END": [5]})
    >>> bool(torch.allclose(other, patched))
    True
    """
    return follow_all(hf, path, base, other, where)[0][1]


def follow_all(hf: Any, path: Path, base: Tensor, other: Tensor, where: Where) -> list[tuple[Site, Reading]]:
    """Follow one path without open axes; ``base`` and ``other`` are token ids [example, pos].

    Returns for each last target, a whole layer written out, the site and what it is in the base run, the other run and the patched run: [example, ...] at the target's
    position, [example, pos, ...] where it has none; the logits at END where none is named. Raises CircuitryError for a node
    that the reference does not record.

    >>> import circuitry as ct
    >>> model, ids = ct.load("bundled:mamba"), torch.arange(6)[None] + 300
    >>> found = follow_all(model.hf, ct.parse("embed -> (gate[0], logits)"), ids, ids + 1, {"END": [5]})
    >>> [tuple(patched.shape) for _, (_, _, patched) in found]
    [(1, 6, 256), (1, 2048)]
    """
    reference = Reference(hf)
    clean, corrupted = reference.run(base, {}), reference.run(other, {})
    path = _spelled_out(path, reference.names.short, clean)
    values, sources = corrupted, path.sources
    for leg in path.legs:
        edits = _holds(leg, sources, clean)
        for site in sources:
            key = _key(site.node)
            edits[key] = _then(edits.get(key), _write(_known(values, site.node), _positions(site.at, where, len(base))))
        values = reference.run(base, edits)
        sources = leg.targets
    found: list[tuple[Site, Reading]] = []
    for end in sources:
        at = _positions(_place(end), where, len(base))
        first, second, patched = (_read(_known(v, end.node), at) for v in (clean, corrupted, values))
        found.append((end, (first, second, patched)))
    return found


def distances(found: list[tuple[Site, Reading]], tokens: list[int]) -> tuple[Tensor, Tensor]:
    """L2 distance [example] of the other run and of the patched run from the base run, over all last targets together.

    Of a target at every position only an example's own ``tokens`` count, not its padding.

    >>> import circuitry as ct
    >>> ones, site = torch.ones(1, 3, 2), ct.parse("embed -> gate[0]").legs[0].targets[0]
    >>> [one.tolist() for one in distances([(site, (0 * ones, ones, 3 * ones))], [2])]
    [[2.0], [6.0]]
    """
    totals = []
    for run in (1, 2):
        squares = torch.zeros(len(tokens), dtype=torch.float64)
        for end, values in found:
            for example, count in enumerate(tokens):
                change = values[run][example].double() - values[0][example].double()
                squares[example] += (change[:count] if _place(end) is None else change).pow(2).sum().cpu()
        totals.append(squares.sqrt())
    return totals[0], totals[1]


def _place(end: Site) -> Position | None:
    """Where a target is read: the logits at END if the path does not say."""
    return Position("END") if end.at is None and end.node.family == "logits" else end.at


def _known(values: Values, node: Node) -> Tensor:
    if (key := _key(node)) not in values:
        raise CircuitryError(f"the reference does not record {node}; another executor without verify= measures it")
    return values[key]


def _spelled_out(path: Path, short: Mapping[str, str], known: Values) -> Path:
    """The path with every short name replaced by the node's full one, and ends that name a whole layer by all nodes in it."""

    def node(one: Node) -> Node:
        return replace(one, family=short.get(one.family, one.family))

    def sites(members: tuple[Site, ...]) -> tuple[Site, ...]:
        named = [replace(site, node=node(site.node)) for site in members]
        return tuple(replace(one, node=replace(one.node, indices=at)) for one in named for at in every(one.node))

    def every(one: Node) -> list[tuple[int, ...]]:
        family, indices, port = _key(one)
        return [at for f, at, p in known if (f, p) == (family, port) and at[: len(indices)] == indices]

    def leg(one: Leg) -> Leg:
        return replace(one, targets=sites(one.targets), frozen=tuple(map(node, one.frozen)), spared=tuple(map(node, one.spared)))

    return replace(path, sources=sites(path.sources), legs=tuple(map(leg, path.legs)))


def _key(node: Node) -> Key:
    if not all(isinstance(i, int) for i in node.indices):
        raise CircuitryError(f"{node} has an open axis; the reference runs one cell at a time")
    port = "" if node.port in (None, "z") else str(node.port)
    return node.family, tuple(int(i) for i in node.indices if isinstance(i, int)), port


def _positions(at: Position | None, where: Where, examples: int) -> list[int] | None:
    if at is None:
        return None
    return [at.base] * examples if isinstance(at.base, int) else [int(p) + at.offset for p in where[str(at.base)]]


def _holds(leg: Leg, sources: tuple[Site, ...], clean: Values) -> dict[Key, Edit]:
    """Overwrite every value of a frozen node by its clean one.

    A name without a port is not meant for the leg's own two ends, a name with one only not for the end that is that port.
    """
    ends = [_key(s.node) for s in (*sources, *leg.targets)]
    frozen = set()
    for name in leg.frozen:
        own = [end if name.port else end[:2] for end in ends]
        frozen |= {
            key for key in clean if _covers(_key(name), key, exact_port=True) and (key if name.port else key[:2]) not in own
        }
    if leg.directly:
        free = {(w, s.node.indices[:1]) for s in sources for w in _own_writers(_key(s.node)[0])} | {end[:2] for end in ends}
        frozen |= {key for key in clean if key[0] in _WRITERS and key[:2] not in free}
    return {key: _hold(clean[key]) for key in frozen if not any(_covers(_key(n), key, exact_port=False) for n in leg.spared)}


def _covers(pattern: Key, key: Key, exact_port: bool) -> bool:
    same = pattern[0] == key[0] and pattern[1] == key[1][: len(pattern[1])]
    return same and (pattern[2] == key[2] or (not exact_port and not pattern[2]))


def _own_writers(family: str) -> tuple[str, ...]:
    """The block through which a node's own effect enters the stream."""
    if family in ("embed", "resid", "resid_mid"):
        return ()
    return ("attn",) if family in ("head", "attn") else ("mlp",) if family.startswith("mlp") else ("mixer_out",)


def _hold(kept: Tensor) -> Edit:
    return lambda _, at: kept if at is None else kept[:, at]


def _write(new: Tensor, positions: list[int] | None) -> Edit:
    """Take the new values at the positions, one an example, or everywhere."""

    def edit(value: Tensor, at: int | None) -> Tensor:
        if positions is None:
            return new if at is None else new[:, at]
        for example, position in enumerate(positions):
            if at is None:
                value[example, position] = new[example, position]
            elif at == position:
                value[example] = new[example, at]
        return value

    return edit


def _then(first: Edit | None, second: Edit) -> Edit:
    """Both edits: a set of sites may name one node at several positions."""
    return second if first is None else lambda value, at: second(first(value, at), at)


def _read(value: Tensor, positions: list[int] | None) -> Tensor:
    return value if positions is None else torch.stack([value[e, p] for e, p in enumerate(positions)])
