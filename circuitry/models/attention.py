"""The hook points of all attention models: q, k, v, pattern and z of every query head as modules that executors can address.

Registered with transformers' attention interface, so no modelling code is copied. Keys and values are repeated per query head
before their hook points: that is what lets one head of a group be patched (grouped-query attention).

In some models a head has a sink: a key of no token, with a score of its own. Attention to it takes no value, so a row of the pattern,
which is about tokens only, adds up to less than 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from .packed import Inside
from .spread import input_device
from .stock import check_stock
from .threads import on_threads

NAME = "circuitry"
_OTHERWISE = {"GraniteSWA": torch.float32, "Flint": torch.bfloat16}
"""Types of attention with sinks that round otherwise, and the widest dtype in which they do. GraniteSWA multiplies a head's output by what
the sink leaves; a pattern that can be patched has that factor itself. Flint's scores are float32 in half precision."""


Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From queries and keys [batch, head, pos, d_head] to masked scores [batch, head, query pos, key pos], and last that of the sink."""
Softmax: TypeAlias = Callable[[Tensor, Tensor, Score], Tensor]
"""From queries, keys and their score to the pattern, in the queries' dtype."""


def _softmax(q: Tensor, k: Tensor, score: Score) -> Tensor:
    return torch.softmax(score(q, k), -1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)


def _shifted_softmax(q: Tensor, k: Tensor, score: Score) -> Tensor:
    """In half precision too, stock models with sinks shift the scores and take the softmax in the dtype of the queries."""
    scores = score(q, k)
    return torch.softmax(scores - scores.max(-1, keepdim=True).values, -1)


class AttentionTap(nn.Module):
    """The identity modules through which one attention layer passes its values.

    q, k, v: [batch, head, pos, d_head], after rotary embedding. pattern: [batch, head, query pos, key pos].
    z: [batch, pos, head, d_head]. ``softmax`` makes the pattern of the scores, and of the sink's where heads have one.
    """

    def __init__(self, shifted: bool = False) -> None:
        super().__init__()
        for port in ("q", "k", "v", "pattern", "z"):
            setattr(self, port, nn.Identity())
        self.calls = 0
        self.softmax: Softmax = _shifted_softmax if shifted else _softmax


Scores: TypeAlias = Callable[[Tensor, Tensor, Inside | None], Tensor]
"""A ``Score`` that is told which tokens are packed, if they are; ``products`` and ``rows`` are what it is made of."""


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> tuple[Tensor, Tensor]:
    """Attention with every value passed through its hook point: z [batch, pos, head, d_head] and the pattern.

    ``query``, ``key`` and ``value`` are [batch, head, pos, d_head], of which the last two may have fewer heads.

    >>> from types import SimpleNamespace
    >>> layer, x = SimpleNamespace(circuitry=AttentionTap()), torch.ones(1, 2, 3, 4)
    >>> z, pattern = attend(layer, x, x[:, :1], x[:, :1], products)
    >>> tuple(z.shape), tuple(pattern.shape)
    ((1, 3, 2, 4), (1, 2, 3, 3))
    """
    points: Any = module.circuitry
    points.calls += 1
    group = query.shape[1] // key.shape[1]
    if group > 1:  # a copy has other strides, with which a product may be rounded otherwise
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    q, k, v = points.q(query), points.k(key), points.v(value)
    inside: Inside | None = getattr(module, "circuitry_packed", None)
    tokens = value.shape[2] if inside is None else inside.tokens.length
    # A sink is a key without a token: it takes part in the softmax, and has no column of the pattern.
    pattern = points.pattern(points.softmax(q, k, lambda q, k: scores(q, k, inside))[..., :tokens])
    mixed = pattern @ v if inside is None else _mixed(pattern, v, inside)
    z = points.z(mixed.transpose(1, 2).contiguous())
    return z, pattern


def products(q: Tensor, k: Tensor, inside: Inside | None = None) -> Tensor:
    """The products of queries and keys [batch, head, pos, d_head]: [batch, head, query pos, key pos].

    >>> products(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3)).tolist()
    [[[[3.0, 3.0], [3.0, 3.0]]]]
    """
    return q @ k.transpose(2, 3) if inside is None else _scores(q, k, inside)


def rows(mask: Tensor, inside: Inside | None) -> Tensor:
    """A mask or bias [row or 1, head or 1, query pos or 1, key pos] for the tokens that are packed, if they are.

    >>> rows(torch.zeros(1, 1, 3, 3), None).shape
    torch.Size([1, 1, 3, 3])
    """
    return mask if inside is None else _mask(mask, inside)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention, bit for bit: the function that transformers' attention interface calls. ``s_aux`` [head] are scores of sinks."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling

    def scores(q: Tensor, k: Tensor, inside: Inside | None) -> Tensor:
        scores = products(q, k, inside)
        scores *= scale  # in place: these are the largest tensors of a long prompt
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if attention_mask is not None:
            scores += rows(attention_mask, inside)
        return scores if s_aux is None else torch.cat([scores, s_aux[None, :, None, None].expand(*scores.shape[:-1], 1)], -1)

    return attend(module, query, key, value, scores)


def _scores(q: Tensor, k: Tensor, inside: Inside) -> Tensor:
    """Scores [1, head, token, position]: with a row's own keys where it has any, else with those of its base row."""
    q, k = q[0], k[0]
    scores = q.new_zeros(*q.shape[:2], inside.tokens.length)

    def with_base_keys(
        pair: tuple[slice, slice],
    ) -> None:  # one product for all readers of a base row: none needs a copy of its keys
        base, readers = pair
        scores[:, readers, : base.stop - base.start] = q[:, readers] @ k[:, base].mT

    def with_own_keys(pair: tuple[slice, slice]) -> None:
        row, positions = pair
        scores[:, row, positions] = q[:, row] @ k[:, row].mT

    # Own keys come second and overwrite the base row's. torch's own threads would slow down so many small products (``threads``).
    on_threads(with_base_keys, _readers(inside), q.device)
    on_threads(with_own_keys, _long(inside), q.device)
    for tokens, positions in _short(inside):
        scores[:, tokens[:, :, None], positions[:, None, :]] = q[:, tokens] @ k[:, tokens].mT
    return scores[None]


def _mixed(pattern: Tensor, v: Tensor, inside: Inside) -> Tensor:
    """Mix the values [1, head, token, d_head] by each token's pattern: its base row's values, and those its own row has instead.

    In half precision the sum is made in float32 and rounded once, like the stock product. A second rounding could make a mixture
    of experts choose another expert for a token that no patch reaches.
    """
    dtype, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)
    pattern, v = pattern[0].to(wide), v[0].to(wide)
    z, own = torch.zeros_like(v), v
    if len(base := _base(inside)):
        # The product with the base row's values covers every position, so own tokens add only their difference from it.
        own = torch.cat([v[:, : -len(base)], v[:, -len(base) :] - v[:, base]], 1)

    def add_base_values(pair: tuple[slice, slice]) -> None:
        base, readers = pair
        z[:, readers] = pattern[:, readers, : base.stop - base.start] @ v[:, base]

    def add_own_values(pair: tuple[slice, slice]) -> None:
        row, positions = pair
        z[:, row] += pattern[:, row, positions] @ own[:, row]

    on_threads(add_base_values, _readers(inside), v.device)
    on_threads(add_own_values, _long(inside), v.device)
    for tokens, positions in _short(inside):
        z[:, tokens] += pattern[:, tokens[:, :, None], positions[:, None, :]] @ own[:, tokens]
    return z[None].to(dtype)


def _mask(mask: Tensor, inside: Inside) -> Tensor:
    """The rows of the model's mask [row, head or 1, query or 1, key] that belong to these tokens: [1, head or 1, token, key]."""
    mask = mask[(None,) * (4 - mask.dim())]
    row = inside.batch if len(mask) > 1 else torch.zeros_like(inside.batch)
    query = inside.position if mask.shape[2] > 1 else torch.zeros_like(inside.position)
    return mask[row, :, query].transpose(0, 1)[None]


_LONG = 24
"""A row without gaps that has at least this many tokens gets a product of its own. All other rows of equal length share one."""


def _readers(inside: Inside) -> list[tuple[slice, slice]]:
    """The tokens of each base row, and those of all rows that fall back on it, which are neighbours in the batch."""
    tokens, pairs = inside.tokens, list[tuple[slice, slice]]()
    for row in range(tokens.whole):
        rows = np.flatnonzero(tokens.base == row)[1:]
        if len(rows) and tokens.ends[rows[0]] < tokens.ends[rows[-1] + 1]:
            base = slice(int(tokens.ends[row]), int(tokens.ends[row + 1]))
            pairs.append((base, slice(int(tokens.ends[rows[0]]), int(tokens.ends[rows[-1] + 1]))))
    return pairs


def _long(inside: Inside) -> list[tuple[slice, slice]]:
    """For every long row without gaps, the indices of its tokens and their positions."""
    tokens, pairs = inside.tokens, list[tuple[slice, slice]]()
    for first, last in zip(tokens.ends[:-1].tolist(), tokens.ends[1:].tolist(), strict=True):
        if last - first >= _LONG and tokens.position[last - 1] - tokens.position[first] == last - first - 1:
            pairs.append((slice(first, last), slice(int(tokens.position[first]), int(tokens.position[last - 1]) + 1)))
    return pairs


def _short(inside: Inside) -> list[tuple[Tensor, Tensor]]:
    """All other rows, grouped by length: the indices of their tokens and their positions, both [row, number]."""
    if "short" not in inside.cache:
        tokens, long = inside.tokens, {row.start for row, _ in _long(inside)}
        groups = []
        for rows in tokens.by_length():
            rows = rows[~np.isin(rows[:, 0], list(long))]
            if len(rows):
                groups.append((tokens.index(rows), tokens.index(tokens.position[rows])))
        inside.cache["short"] = groups
    return inside.cache["short"]  # type: ignore[no-any-return]


def _base(inside: Inside) -> Tensor:
    """For each token of the rows that fall back on another (the last rows), the index of its base row's token at that position."""
    if "base" not in inside.cache:
        tokens = inside.tokens
        first = int(tokens.ends[np.count_nonzero(tokens.base == np.arange(len(tokens.base)))])
        row, position = tokens.row[first:], tokens.position[first:]
        inside.cache["base"] = tokens.index(tokens.own(tokens.base[row], position))
    return inside.cache["base"]  # type: ignore[no-any-return]


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one layer: stream and MLP, heads, scores and patterns.

    >>> from transformers import GPT2Config
    >>> values(GPT2Config(), 64) > 64 * 768
    True
    """
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int(length * (4 * inner + 12 * config.hidden_size) + 4 * config.num_attention_heads * length**2)


def most_positions(config: Any) -> int | None:
    """How many positions the model was made for, according to its config; None if the config does not say.

    >>> from transformers import GPT2Config
    >>> most_positions(GPT2Config(n_positions=8))
    8
    """
    most: int | None = getattr(config, "max_position_embeddings", None)
    return most


def use(model: Any, implementation: str) -> None:
    """Set the name of the attention function that a model uses.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1))
    >>> use(model, "eager")
    >>> model.config._attn_implementation
    'eager'
    """
    if model._can_set_attn_implementation():
        model.set_attn_implementation(implementation)
    else:  # attention in code of the type's own, which reads the config
        model.config._attn_implementation = implementation


@contextmanager
def new_tensors(dtype: torch.dtype) -> Iterator[None]:
    """Within this context new tensors are float64 if a model is: stock XGLM makes one that must hold the least number of its dtype.

    >>> with new_tensors(torch.float64):
    ...     torch.zeros(1).dtype
    torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype == torch.float64 else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def attach(model: Any, layers: list[Any], adapt: Callable[[Any, list[Any]], None] = lambda model, layers: None) -> None:
    """Put the hook points into a model and check them: each layer calls them once, and the logits equal the stock eager ones.

    ``layers`` are the attention modules; ``adapt`` leads the attention of types without transformers' interface to them. Raises
    ModelError if the hook points are not called, or if the model computes something else.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> model.hf.gpt_neox.layers[0].attention.circuitry.z
    Identity()
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    length = min(10, most_positions(model.config) or 10)  # learned positions may be fewer
    ids = torch.arange(length, device=input_device(model))[None] % model.config.vocab_size
    use(model, "eager")
    with new_tensors(model.dtype):
        stock = model(ids, use_cache=False).logits
    for layer in layers:
        layer.circuitry = AttentionTap(shifted=hasattr(layer, "sinks"))  # MiMo has None in layers without
    adapt(model, layers)
    use(model, NAME)
    ours = model(ids, use_cache=False).logits
    calls = [layer.circuitry.calls for layer in layers]
    if calls != [1] * len(layers):
        raise ModelError(
            f"{model.config.model_type}: expected one call of the instrumented attention in each of {len(layers)} layers, "
            f"got {sum(calls)}"
        )
    check_stock(model, stock, ours, ids, len(layers), model.config.model_type, _allowed(stock, layers))


def _allowed(stock: Tensor, layers: list[Any]) -> float:
    """How far our logits may be from the stock ones in float32 and below: not at all, but for some sinks."""
    widest = (dtype for name, dtype in _OTHERWISE.items() if type(layers[0]).__name__.startswith(name))
    if any(stock.dtype.itemsize <= dtype.itemsize for dtype in widest):
        return 16 * torch.finfo(stock.dtype).eps * stock.abs().max().item()
    return 0.0
