"""Graded induction in a Jamba: a state finds the answer, or one layer of attention does, or both.

Attention has no positions here. A Mamba layer without a state copies each token to the next position, and writes there that a
token came before. The sink of attention is the first position, where none did. So prompts need a token before [A].
"""

from __future__ import annotations

from typing import Any

import torch

from ..mamba import WIDTH, Store, store
from ..stream import LOGIT, ONE, Stream, blank, hashed
from ..truth import TrueComponent
from .design import Circuit, Design, Stack
from .states import answering, components, distractor, softened, state_routes, store_routes

HEADS = 2


def jamba(design: Design) -> Circuit:
    """A JambaForCausalLM and its circuit.

    >>> import numpy as np
    >>> design = Design("jamba", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> jamba(design).hf(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    if design.redundancy == "backup" or (design.redundancy == "none" and design.pick(True, False)):
        return _by_states(design)
    return _by_attention(design)


def _by_states(design: Design) -> Circuit:
    """States answer; the attention layer matches tokens and writes where nothing reads."""
    stores = answering(design)
    layers = sorted(design.rng.permutation(design.layers)[: len(stores) + 1].tolist())
    attention = layers.pop(design.pick(*range(len(layers))))
    mixers: list[Store | float] = [distractor(design) for _ in range(design.layers)]
    for layer, one in zip(layers, stores, strict=True):
        mixers[layer] = one
    nodes = [(f"ssm_state[{layer}]", f"ssm_out[{layer}]", layer) for layer in layers]
    copies = state_routes(Stack(design.layers, middle=True), design, nodes)
    return Circuit(_build(design, mixers, attention, 0, 0.0), copies, components(nodes))


def _by_attention(design: Design) -> Circuit:
    """A head answers with what follows its match; with "or" a state does as well, with "and" two layers copy half a token each."""
    writers = 2 if design.redundancy == "and" else 1
    attention = int(design.rng.integers(writers, design.layers - (design.redundancy == "or" and writers == design.layers - 1)))
    copying = sorted(design.rng.permutation(attention)[:writers].tolist())
    mixers: list[Store | float] = [distractor(design) for _ in range(design.layers)]
    for layer in copying:
        mixers[layer] = 1 / writers
    stack, head = Stack(design.layers, middle=True), design.pick(*range(HEADS))
    share, rest = design.shares() if design.redundancy == "or" else (1.0, 0.0)
    copies = [_head_routes(stack, copying, attention, f"head[{attention},{head}]", design.mixed)]
    found = [TrueComponent(f"head[{attention},{head}]", "induction head", "B")]
    found += [TrueComponent(f"conv_tap[{layer},1]", "writes the k ([A'])", "B") for layer in copying]
    if design.redundancy == "or":
        layer = design.pick(*(layer for layer in range(design.layers) if layer not in (*copying, attention)))
        mixers[layer] = Store(1, "out", rest, **softened(design), mixed=design.mixed)
        node = f"ssm_state[{layer}]", f"ssm_out[{layer}]", layer
        copies.append(store_routes(stack, design.mixed, *node))
        found += components([node])
    return Circuit(_build(design, mixers, attention, head, share), tuple(copies), tuple(found))


def _head_routes(stack: Stack, copying: list[int], attention: int, head: str, mixed: float) -> dict[str, str]:
    tail = f"{head} @ END -> {stack.answer(f'attn[{attention}]', attention)}\n"
    routes = {"A": "", "B": f"{stack.read(attention, 'B')} -> {head}.v @ B -[attention]-> {tail}"}
    for layer in copying:
        copied = stack.written(f"mixer_out[{layer}]", layer, "B", attention)
        routes[
            "A"
        ] += f"""{stack.read(layer, "A")} -> conv_in[{layer}] @ A -[lag 1]-> conv_tap[{layer},1] @ B -> ssm_in[{layer}] @ B
ssm_in[{layer}] @ B -> ssm_in[{layer}].skip @ B -> ssm_out[{layer}] @ B -> {copied} -> {head}.k @ B
{head}.k @ B -[attention]-> {head}.pattern @ END -> {tail}"""
    if mixed:
        routes["A"] += f"resid[{attention}] @ B -> {head}.v @ B -[attention]-> {tail}"
    return routes


@torch.no_grad()
def _build(design: Design, mixers: list[Store | float], attention: int, head: int, share: float) -> Any:
    """``mixers``: a store, or the amount of the token before that a layer without a state copies. ``share``: what the head writes."""
    from transformers import JambaConfig, JambaForCausalLM

    tokens = design.tokens
    stream = Stream(token=tokens, previous=tokens, out=tokens, later=1, unused=(3 * tokens + 18) % HEADS)
    config = JambaConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=design.layers, intermediate_size=16,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, attn_layer_period=design.layers, attn_layer_offset=attention,
        num_experts=1, num_experts_per_tok=1, mamba_d_state=tokens, mamba_dt_rank=1, mamba_expand=1, mamba_d_conv=WIDTH,
        tie_word_embeddings=False, use_cache=False, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(JambaForCausalLM, config)
    stream.embed(hf.model.embed_tokens.weight, token=torch.eye(tokens))
    first = min((layer for layer, mixer in enumerate(mixers) if isinstance(mixer, float)), default=-1)
    for layer, (block, mixer) in enumerate(zip(hf.model.layers, mixers, strict=True)):
        if layer == attention:
            for number in range(HEADS):
                _attend(block.self_attn, stream, design, number, share if number == head else 0.0)
        elif isinstance(mixer, Store):
            store(block.mamba, stream, mixer, scale=tokens)  # norms make a single 1 of B, and of C, the root of the state's size
        else:
            _copy(block.mamba, stream, design, mixer, first == layer)
        stream.constant(block.feed_forward.gate_proj.weight, slice(None), ONE)
        stream.read(block.feed_forward.up_proj.weight, slice(None), "token", hashed(tokens))
        stream.write(block.feed_forward.down_proj.weight, "spare", slice(None), torch.eye(16))
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def _copy(mixer: Any, stream: Stream, design: Design, amount: float, first: bool) -> None:
    """Copy ``amount`` of each token to the next position, past the state; the first such layer also writes that a token came before."""
    tokens, drive = design.tokens, design.drive
    on = drive / (1 + torch.tensor(-drive).exp())
    copied, later = slice(tokens), slice(tokens, tokens + 1)
    stream.read(mixer.in_proj.weight, copied, "token", torch.eye(tokens))
    stream.constant(mixer.in_proj.weight, later, 1.0)
    stream.constant(mixer.in_proj.weight, slice(stream.size, None), drive)
    mixer.conv1d.weight[: tokens + 1, 0, WIDTH - 2] = drive
    mixer.D[: tokens + 1] = 1.0
    stream.write(mixer.out_proj.weight, "previous", copied, amount * torch.eye(tokens) / on**2)
    if first:
        stream.write(mixer.out_proj.weight, "later", later, torch.ones(1, 1) / on**2)


def _attend(attention: Any, stream: Stream, design: Design, number: int, share: float) -> None:
    """Write the weights of one head. Its first dimension is for the sink, the others for tokens; without a share it is a distractor."""
    tokens, size = design.tokens, stream.size // HEADS
    contrast, start = design.contrast(100.0), number * size
    sink, rows, eye = slice(start, start + 1), slice(start + 1, start + 1 + tokens), torch.eye(tokens)
    gain = size**0.5  # the model divides scores by it
    stream.constant(attention.q_proj.weight, sink, gain * (contrast - design.above_sink(contrast)))
    stream.constant(attention.k_proj.weight, sink, 1.0)
    stream.read(attention.k_proj.weight, sink, "later", -1.0)
    stream.read(attention.q_proj.weight, rows, "token", gain * contrast * eye)
    stream.read(attention.k_proj.weight, rows, "previous", eye)
    stream.read(attention.v_proj.weight, rows, "token", eye)
    stream.read(attention.v_proj.weight, rows, "previous", design.mixed * eye)
    into = "out" if share else "spare"
    stream.write(attention.o_proj.weight, into, rows, share * eye if share else hashed(tokens))
