"""Induction in a Mamba: the convolution brings [A] to [B], the state stores [B] under the key [A], and the second [A] reads it.

Every layer does this with its own lag: it stores each token under the token ``lag`` positions before it, and reads what is stored
under the current token. Layer 1 has lag 1 and writes what the logits read. The others have lags 2 and 3 and write where nothing
reads.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from .stream import LOGIT, ONE, TOKENS, Stream, blank, hashed
from .truth import GroundTruth, TrueComponent, ground_truth

LAYERS = ((2, "spare"), (1, "out"), (3, "spare"))
"""For each layer, the distance from key to value in tokens, and the block that the layer writes."""
_WIDTH = 4


@torch.no_grad()
def build(tokens: int = TOKENS, layers: tuple[tuple[int, str], ...] = LAYERS) -> Any:
    """A MambaForCausalLM with constructed weights; ``layers`` as ``LAYERS``.

    >>> build(tokens=5)(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    from transformers import MambaConfig, MambaForCausalLM

    stream = Stream(token=tokens, out=tokens)
    config = MambaConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=len(layers), state_size=tokens, time_step_rank=1, expand=1,
        conv_kernel=_WIDTH, tie_word_embeddings=False, use_cache=False, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(MambaForCausalLM, config)
    stream.embed(hf.backbone.embeddings.weight, token=torch.eye(tokens))
    for block, (lag, into) in zip(hf.backbone.layers, layers, strict=True):
        _store(block.mixer, stream, tokens, lag, into)
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def _store(mixer: Any, stream: Stream, tokens: int, lag: int, into: str) -> None:
    """Write the weights of one mixer. Channels are [token as value][token as key]; the state is value times key, without decay."""
    value, key, eye = slice(tokens), slice(tokens, 2 * tokens), torch.eye(tokens)
    for channels, steps in ((value, 0), (key, lag)):
        stream.read(mixer.in_proj.weight, channels, "token", eye)
        mixer.conv1d.weight[channels, 0, _WIDTH - 1 - steps] = ONE
    stream.constant(mixer.in_proj.weight, slice(stream.size, None), ONE)  # the gate, always 1
    write, read = slice(1, 1 + tokens), slice(1 + tokens, None)  # the rows of B and C; row 0 is the step size
    mixer.x_proj.weight[write, key] = eye
    mixer.x_proj.weight[read, value] = eye
    mixer.dt_proj.bias.fill_(math.log(math.e - 1))  # a step size of 1
    mixer.A_log.fill_(-30.0)
    stream.write(mixer.out_proj.weight, into, value, eye if into == "out" else hashed(tokens))


_STORED = """
ssm_state[1] @ B..END -> ssm_state[1].carry @ B..END-1 -[next position]-> ssm_state[1] @ B..END
ssm_state[1] @ B..END -> ssm_state[1].read @ END -> ssm_out[1] @ END -> mixer_out[1] @ END -> resid[2] @ END
resid[2] @ END -> resid[3] @ END -> logits @ END
"""
_ROUTES = {
    "A": """
embed @ A -> resid[0] @ A -> resid[1] @ A -> conv_in[1] @ A -[lag 1]-> conv_tap[1,1] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].B @ B -> ssm_state[1] @ B..END
"""
    + _STORED,
    "B": """
embed @ B -> resid[0] @ B -> resid[1] @ B -> conv_in[1] @ B -[lag 0]-> conv_tap[1,0] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].value @ B -> ssm_state[1] @ B..END
"""
    + _STORED,
}


def truth() -> GroundTruth:
    """Layer 1 writes [B] to its state at [B], and [A] one token after [A].

    >>> truth().offsets
    {'A': 1, 'B': 0}
    """
    components = (
        TrueComponent("ssm_state[1]", "state", "B"),
        TrueComponent("conv_tap[1,0]", "writes the state ([B'])", "B"),
        TrueComponent("conv_tap[1,1]", "writes the state ([A'])", "B"),
    )
    return ground_truth("compiled:mamba", "induction", _ROUTES, components, {"A": 1, "B": 0})
