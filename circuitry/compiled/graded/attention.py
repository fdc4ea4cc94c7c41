"""Graded induction in Transformers: GPT-NeoX (parallel, rotary) and GPT-2 (sequential, learned positions).

A head's score is a number for each distance from query to key, plus a strength if the key's block holds the current token. A head
that copies the token before, and a head that answers, give the rest of their attention to their own position. Attention to all other tokens is exp(-``TAIL``) or less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..stream import LOGIT, Stream, blank, hashed
from ..transformer import Rows, neox
from ..truth import TrueComponent
from .design import Circuit, Design, Stack

HEADS, POSITIONS = 3, 64
"""Heads of a layer, and the longest prompt in tokens."""
THETA = 0.2
"""The base of the rotary angles: below 1, so that any score for each distance is a sum of cosines of these angles."""
FAR = 40.0
"""How far the distances of a head score above all others."""


@dataclass(frozen=True)
class Head:
    """A head that copies ``amount`` of the block ``copies`` to ``into``.

    ``lags`` are its scores by distance, zero for all others; a key whose block ``match`` has the current token scores
    ``strength`` more. ``mixed``: how much of the block ``previous`` it copies as well.
    """

    copies: str
    into: str
    lags: Mapping[int, float]
    match: str = ""
    strength: float = 0.0
    amount: float = 1.0
    mixed: float = 0.0


Layers = list[list[Head]]
Place = tuple[int, int]


def gpt_neox(design: Design) -> Circuit:
    """A GPTNeoXForCausalLM and its circuit.

    >>> import numpy as np
    >>> design = Design("gpt_neox", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> gpt_neox(design).hf(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    return _circuit(design, _gpt_neox, Stack(design.layers, middle=False))


def gpt2(design: Design) -> Circuit:
    """A GPT2LMHeadModel and its circuit.

    >>> import numpy as np
    >>> design = Design("gpt2", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> gpt2(design).hf(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    return _circuit(design, _gpt2, Stack(design.layers, middle=True))


def _circuit(design: Design, build: Callable[[int, Layers], Any], stack: Stack) -> Circuit:
    """Place the heads of the circuit, fill the rest with distractors, and write down the routes."""
    step = design.pick("previous", "answer") if design.redundancy == "or" else "previous"
    twice = design.redundancy in ("or", "and")
    before, answering = _places(design, twice and step == "previous", twice and step == "answer")
    share = 0.5 if design.redundancy == "and" else 1.0
    layers = [[_distractor(design) for _ in range(HEADS)] for _ in range(design.layers)]
    for layer, number in before:
        layers[layer][number] = _previous(design, share)
    shares = list(design.shares()) if len(answering) > 1 else [1.0]
    for layer, number in answering:
        leaked = len(before) * share * (1 - design.kept)
        layers[layer][number] = _answer(design, leaked, shares.pop())
    pairs = [(one, other) for one in before for other in answering]
    merged = [pairs] if design.redundancy != "or" else [[pair] for pair in pairs]
    components = [TrueComponent(_name(place), "induction head", "B") for place in answering]
    components += [TrueComponent(_name(place), "writes the k ([A'])", "B") for place in before]
    return Circuit(build(design.tokens, layers), tuple(_routes(stack, copy, design.mixed) for copy in merged), tuple(components))


def _places(design: Design, two_before: bool, two_answering: bool) -> tuple[list[Place], list[Place]]:
    """Which heads copy the token before, and which heads in later layers answer."""
    early, late = design.ordered()
    before, answering = [(early, design.pick(*range(HEADS)))], [(late, design.pick(*range(HEADS)))]
    if two_before:
        free = [(layer, head) for layer in range(late) for head in range(HEADS) if (layer, head) != before[0]]
        before.append(design.pick(*free))
    if two_answering:
        free = [(layer, head) for layer in range(early + 1, design.layers) for head in range(HEADS)]
        answering.append(design.pick(*(place for place in free if place != answering[0])))
    return before, answering


def _previous(design: Design, amount: float) -> Head:
    """A head that copies the token before; what softness takes from it goes to its own position."""
    lags = {1: FAR, 0: FAR + math.log(1 / design.kept - 1)} if design.kept < 1 else {1: FAR}
    return Head("token", "previous", lags, amount=amount)


def _answer(design: Design, leaked: float, amount: float) -> Head:
    """An induction head: its sink is its own position, where ``leaked`` of the current token is in the block it looks for."""
    contrast = design.contrast(100.0)
    strength = contrast / design.kept
    sink = contrast - design.above_sink(contrast) - leaked * strength
    return Head("token", "out", {0: sink}, "previous", strength, amount, design.mixed)


def _distractor(design: Design) -> Head:
    """A head that does something, perhaps the right thing, and writes it where nothing reads."""
    copies = design.pick("token", "previous", "out")
    if design.pick(True, False):
        one, other = design.rng.choice(4, 2, replace=False)
        return Head(copies, "spare", {int(one): FAR, int(other): FAR - design.pick(1.0, FAR)})
    contrast = design.contrast(100.0)
    return Head(copies, "spare", {0: contrast - design.above_sink(contrast)}, design.pick("token", "previous"), contrast)


def _name(place: Place) -> str:
    return f"head[{place[0]},{place[1]}]"


def _routes(stack: Stack, pairs: list[tuple[Place, Place]], mixed: float) -> dict[str, str]:
    routes = {"A": "", "B": ""}
    for before, answering in pairs:
        (early, late), one, other = (before[0], answering[0]), _name(before), _name(answering)
        tail = f"{other} @ END -> {stack.answer(f'attn[{late}]', late)}\n"
        copied = f"{one} @ B -> {stack.written(f'attn[{early}]', early, 'B', late)}"
        routes["A"] += f"{stack.read(early, 'A')} -> {one}.v @ A -[attention]-> {copied} -> {other}.k @ B\n"
        routes["A"] += f"{other}.k @ B -[attention]-> {other}.pattern @ END -> {tail}"
        if mixed:
            routes["A"] += f"resid[{late}] @ B -> {other}.v @ B -[attention]-> {tail}"
        routes["B"] += f"{stack.read(late, 'B')} -> {other}.v @ B -[attention]-> {tail}"
    return routes


def _stream(tokens: int, size: int, **more: int) -> Stream:
    """Blocks for three heads of a size."""
    unused = HEADS * size - 3 * tokens - sum(more.values()) - 19
    return Stream(centred=True, token=tokens, previous=tokens, out=tokens, **more, unused=unused)


def _gpt_neox(tokens: int, layers: Layers) -> Any:
    size = tokens + POSITIONS  # of a head: as many rotated dimensions as positions
    stream = _stream(tokens, size)

    def write(block: Any, number: int, head: Head, rows: Rows, angles: Tensor) -> None:
        weight, (q, k, v) = block.attention.query_key_value.weight, rows
        stream.constant(weight, slice(q.start, q.start + POSITIONS), size**0.5 * _turned(head.lags, angles))
        stream.constant(weight, slice(k.start, k.start + POSITIONS // 2), 1.0)
        z = slice(number * size, (number + 1) * size)
        _match(stream, head, (weight[q], weight[k], weight[v]), block.attention.dense.weight[:, z])

    return neox(stream, tokens, layers, rotated=POSITIONS, theta=THETA, positions=POSITIONS, write=write)


def _turned(lags: Mapping[int, float], angles: Tensor) -> Tensor:
    """The query, before rotation, whose products with a key of ones and zeros are the scores ``lags`` of each distance."""
    turns = torch.arange(POSITIONS, dtype=torch.float64)[:, None] * angles.double()
    waves = torch.cat([torch.cos(turns), -torch.sin(turns)], 1)
    # A small penalty on the query keeps its entries small; scores stay within two hundredths of the largest.
    penalty = 1e-4 * torch.eye(POSITIONS, dtype=torch.float64)
    query: Tensor = torch.linalg.solve(waves.T @ waves + penalty, waves.T @ _by_distance(lags))
    return query.float()


def _by_distance(lags: Mapping[int, float]) -> Tensor:
    scores = torch.zeros(POSITIONS, dtype=torch.float64)
    scores[list(lags)] = torch.tensor(list(lags.values()), dtype=torch.float64)
    return scores


@torch.no_grad()
def _gpt2(tokens: int, layers: Layers) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = tokens + POSITIONS
    stream = _stream(tokens, size, position=POSITIONS)
    config = GPT2Config(
        vocab_size=tokens, n_embd=stream.size, n_layer=len(layers), n_head=HEADS, n_inner=16, n_positions=POSITIONS,
        tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(GPT2LMHeadModel, config)
    stream.embed(hf.transformer.wte.weight, token=torch.eye(tokens))
    stream.write(hf.transformer.wpe.weight.T, "position", slice(None), torch.eye(POSITIONS))
    back = torch.arange(POSITIONS) - torch.arange(POSITIONS)[:, None]  # [key, query]
    for block, heads in zip(hf.transformer.h, layers, strict=True):
        for number, head in enumerate(heads):
            z = slice(number * size, (number + 1) * size)
            # GPT-2 stores its maps as [input, output], the transpose of a linear layer's weight.
            q, k, v = (part.T[z] for part in block.attn.c_attn.weight.chunk(3, 1))
            scores = _by_distance(head.lags).float()[back.clamp(min=0)] * (back >= 0)
            stream.read(q, slice(POSITIONS), "position", size**0.5 * scores)
            stream.read(k, slice(POSITIONS), "position", torch.eye(POSITIONS))
            _match(stream, head, (q, k, v), block.attn.c_proj.weight.T[:, z])
        stream.read(block.mlp.c_fc.weight.T, slice(None), "token", hashed(tokens))
        stream.write(block.mlp.c_proj.weight.T, "spare", slice(None), torch.eye(16))
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def _match(stream: Stream, head: Head, rows: tuple[Tensor, Tensor, Tensor], written: Tensor) -> None:
    """Write what a head does with tokens: the last dimensions of its query and key, its value, and its output."""
    (q, k, v), tokens = rows, slice(POSITIONS, None)
    eye = torch.eye(stream.width("token"))
    if head.match:
        # The model divides scores by the root of the head's size.
        stream.read(q, tokens, "token", head.strength * len(q) ** 0.5 * eye)
        stream.read(k, tokens, head.match, eye)
    stream.read(v, tokens, head.copies, eye)
    if head.mixed:
        stream.read(v, tokens, "previous", head.mixed * eye)
    stream.write(written, head.into, tokens, hashed(len(eye)) if head.into == "spare" else head.amount * eye)
