"""Induction with the gated delta rule: the state holds one token under each key, and a newer pair erases the older one.

A head's key is the token ``back`` positions before, its query the current token, its value the token ``lag`` positions back. All
have an entry for every token, so keys are orthogonal, and norms of queries and keys change nothing. At every token the state first
erases what it holds under the key, then writes the value there: in [A][C] ... [A][B] ... [A] the second pair erases [C] and writes
[B]. The norm after the state makes what is read equally long, whatever it is, so without the erasing both [B] and [C] have a logit
of 20 divided by the root of two. In layer 1 one head does this with adjacent tokens and writes what the logits read. Other heads
have other lags, erase and write only half, or forget. All of these write where nothing reads, and so do the MLPs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .stream import LOGIT, ONE, TOKENS, Stream, blank, hashed
from .truth import GroundTruth, TrueComponent, TrueSetting, ground_truth

_WIDTH, _INNER, LARGE = 4, 16, 300.0
"""Taps of the convolution, width of an MLP, and the entries of queries, keys and values: large beside the constants in the norms."""
KEEPS, FORGETS = -30.0, 1.0
"""A head's ``A_log``: no decay, or a decay to 1/7 with each token."""


@dataclass(frozen=True)
class Head:
    """A head that stores the token ``lag`` positions back under the one ``back`` positions back, and the block that it writes.

    ``share`` is its beta: how much of the old value it erases, and of the new one it writes.
    """

    back: int
    lag: int = 0
    into: str = "spare"
    share: float = 1.0
    memory: float = KEEPS


LAYERS = (
    (Head(2), Head(1, share=0.5), Head(3, memory=FORGETS)),
    (Head(1, share=0.5), Head(1, into="out"), Head(2)),
    (Head(1, memory=FORGETS), Head(3), Head(2, 1)),
)
"""The heads of each layer."""


@torch.no_grad()
def build(tokens: int = TOKENS, layers: Sequence[Sequence[Head]] = LAYERS) -> Any:
    """A Qwen3NextForCausalLM with constructed weights and no attention; ``layers`` as ``LAYERS``.

    >>> build(tokens=5)(torch.tensor([[3, 2, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    stream, heads = Stream(token=tokens, out=tokens), len(layers[0])
    config = Qwen3NextConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=len(layers), layer_types=["linear_attention"] * len(layers),
        linear_num_key_heads=heads, linear_num_value_heads=heads, linear_key_head_dim=tokens, linear_value_head_dim=tokens,
        linear_conv_kernel_dim=_WIDTH, intermediate_size=_INNER, num_experts=0, num_experts_per_tok=0, num_attention_heads=heads,
        num_key_value_heads=heads, head_dim=8, tie_word_embeddings=False, use_cache=False, pad_token_id=0, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    hf = blank(Qwen3NextForCausalLM, config)
    stream.embed(hf.model.embed_tokens.weight, token=torch.eye(tokens))
    for norm in (one for one in hf.modules() if type(one).__name__ == "Qwen3NextRMSNorm"):
        norm.weight.zero_()  # these norms multiply by one more than their weight
    for block, row in zip(hf.model.layers, layers, strict=True):
        for number, head in enumerate(row):
            _store(block.linear_attn, stream, head, number)
        _distract(block.mlp, stream)
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def _store(mixer: Any, stream: Stream, head: Head, number: int) -> None:
    """Write the weights of one head. The projection's rows are [query][key][value][gate] of each head, but the convolution's
    channels [queries of all heads][keys][values]."""
    tokens, eye = stream.width("token"), torch.eye(stream.width("token"))
    rows = [slice(start, start + tokens) for start in range(4 * tokens * number, 4 * tokens * (number + 1), tokens)]
    for part, back in enumerate((0, head.back, head.lag)):
        channel = (part * mixer.num_k_heads + number) * tokens
        stream.read(mixer.in_proj_qkvz.weight, rows[part], "token", eye)
        mixer.conv1d.weight[channel : channel + tokens, 0, _WIDTH - 1 - back] = LARGE
    stream.constant(mixer.in_proj_qkvz.weight, rows[3], ONE)
    logit = math.log(head.share / (1 - head.share)) if head.share < 1 else -KEEPS
    stream.constant(mixer.in_proj_ba.weight, slice(2 * number, 2 * number + 1), logit)
    mixer.A_log[number] = head.memory
    values, length = slice(tokens * number, tokens * (number + 1)), tokens**0.5  # of what the norm after the state gives
    stream.write(mixer.out_proj.weight, head.into, values, (hashed(tokens) if head.into == "spare" else eye) / length)


def _distract(mlp: Any, stream: Stream) -> None:
    """Let an MLP copy a number of the current token to the spare entries."""
    stream.read(mlp.gate_proj.weight, slice(None), "token", ONE * hashed(stream.width("token"), _INNER))
    stream.constant(mlp.up_proj.weight, slice(None), 1.0)
    stream.write(mlp.down_proj.weight, "spare", slice(None), torch.eye(_INNER))


_STORED = """
ssm_state[1,1] @ B..END -> ssm_state[1,1].carry @ B..END-1 -[next position]-> ssm_state[1,1] @ B..END
ssm_state[1,1] @ B..END -> ssm_state[1,1].read @ END -> ssm_out[1,1] @ END -> mixer_out[1] @ END -> resid_mid[1] @ END
resid_mid[1] @ END -> resid[2] @ END -> resid_mid[2] @ END -> resid[3] @ END -> logits @ END
"""
_KEY = """
embed @ A -> resid[0] @ A -> resid_mid[0] @ A -> resid[1] @ A -> conv_in[1] @ A -[lag 1]-> conv_tap[1,1] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].key @ B -> ssm_state[1,1] @ B..END
"""
_ERASE = """
ssm_in[1] @ B -> ssm_in[1].erase @ B -> ssm_state[1,1] @ B..END
"""
_VALUE = """
embed @ B -> resid[0] @ B -> resid_mid[0] @ B -> resid[1] @ B -> conv_in[1] @ B -[lag 0]-> conv_tap[1,0] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].value @ B -> ssm_state[1,1] @ B..END
"""
_COMPONENTS = (
    TrueComponent("ssm_state[1,1]", "state", "B"),
    TrueComponent("conv_tap[1,0]", "writes the state ([B'])", "B"),
    TrueComponent("conv_tap[1,1]", "writes the state ([A'])", "B"),
)
_OFFSETS = {"A": 1, "B": 0}
_BOTH = LOGIT / 2**0.5
_SET = (
    TrueSetting("beta[1,1]", "B", 0.0, {"B": 0.0, "C": LOGIT}),
    TrueSetting("beta[1,1].write", "B", 0.0, {"B": 0.0, "C": 0.0}),
    TrueSetting("beta[1,1].erase", "B", 0.0, {"B": _BOTH, "C": _BOTH}),
    TrueSetting("beta[1,1].erase", "B", 0.5, {"B": LOGIT / 1.25**0.5, "C": LOGIT / 5**0.5}),
    TrueSetting("ssm_in[1].value", "B", 0.0, {"B": 0.0, "C": 0.0}),
    TrueSetting("ssm_in[1].key", "B", 0.0, {"B": 0.0, "C": 0.0}),
    TrueSetting("ssm_in[1].erase", "B", 0.0, {"B": _BOTH, "C": _BOTH}),
    TrueSetting("ssm_in[1].erase", "C", 0.0, {"B": LOGIT, "C": 0.0}),
    TrueSetting("decay[1,1]", "B", -100.0, {"B": LOGIT, "C": 0.0}),
    TrueSetting("decay[1,1]", "B+1", -100.0, {"B": 0.0, "C": 0.0}),
)


def truth() -> GroundTruth:
    """Head 1 of layer 1 writes [B] under [A]; there is nothing to erase in this task.

    >>> truth().offsets
    {'A': 1, 'B': 0}
    """
    return ground_truth("compiled:gated_delta", "induction", {"A": _KEY + _STORED, "B": _VALUE + _STORED}, _COMPONENTS, _OFFSETS)


def overwriting() -> GroundTruth:
    """The task "overwrite", [A][C] ... [A][B] ... [A]: at B the same head erases [C], found by its own reader of the key.

    >>> [node.node for node in overwriting().nodes if node.node.endswith("erase")], overwriting().settings[2].node
    (['ssm_in[1].erase'], 'beta[1,1].erase')
    """
    routes = {"A": _KEY + _ERASE + _STORED, "B": _VALUE + _STORED}
    return ground_truth("compiled:gated_delta", "overwrite", routes, _COMPONENTS, _OFFSETS, _SET)


TRUTHS = {"overwrite": overwriting}
"""The truth of tasks other than induction."""
