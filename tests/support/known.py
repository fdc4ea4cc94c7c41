"""Models whose write position is known because their weights are written by hand: nothing is trained.

They do no induction. They carry "this token occurred" into that token's own logit, and take the token up at a position that the
weights fix: enough to tell whether a detector of write positions is right. All are stock Hugging Face classes.

The residual stream has a block of ``TOKENS`` entries that says which token stands here, further blocks that only layers write,
and one entry that is always on: so large that norms divide by nearly the same number everywhere, and the source of whatever must
not depend on the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

import circuitry as ct
from circuitry.models.model import wrap

TOKENS, WIDTH, ON = 24, 4, 100.0
"""Tokens of the vocabulary, taps of the convolution, and the entry that is always on."""
DELTA = 1.0


def task(**options: Any) -> ct.Task:
    """Induction prompts short enough for ``TOKENS`` tokens, with room for five positions after B."""
    return ct.task("induction", **{"distance": 8, "prefix": 3, "examples": 16, **options})


def lags(*strengths: float) -> NDArray[np.float64]:
    """Taps [token, lag] that are the same for every token: ``lags(0, 1)`` looks one token back."""
    return np.tile([*strengths, *[0.0] * (WIDTH - len(strengths))], (TOKENS, 1))


def written(*taps: ArrayLike) -> NDArray[np.float64]:
    """What each layer of ``mamba(*taps)`` writes of each token at each offset [layer, token, lag]: SiLU of its tap."""
    values = np.asarray(taps, float)
    return np.asarray(values / (1 + np.exp(-values)))


@torch.no_grad()
def mamba(*taps: ArrayLike, read: bool = True, noise: float = 0.0, seed: int = 0, name: str = "known") -> Any:
    """A Mamba that takes up token t at t + k in the layers whose ``taps`` [token, lag] have an entry at lag k.

    Channel i is token i, brought k tokens on by its convolution; the state adds it up without decay; the logit of i is what
    stands in the states of channel i. Step size, B, C and the gate do not depend on the text. ``read=False``: no state reaches
    the stream. ``noise`` is added to all parameters.
    """
    from transformers import MambaConfig, MambaForCausalLM

    size = 2 * TOKENS + 1
    config = MambaConfig(
        vocab_size=TOKENS, hidden_size=size, num_hidden_layers=len(taps), state_size=1, time_step_rank=1, expand=1,
        conv_kernel=WIDTH, tie_word_embeddings=False, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = MambaForCausalLM(config).eval().double()
    _blank(hf)
    here, out, on = slice(0, TOKENS), slice(TOKENS, 2 * TOKENS), size - 1
    unit = size**0.5 / ON  # a norm makes this of an entry of 1, and ``size ** 0.5`` of the one that is always on
    eye = torch.eye(TOKENS, dtype=torch.float64)
    _stream(hf.backbone.embeddings.weight, hf.lm_head.weight, out, eye / unit)
    for block, of_layer in zip(hf.backbone.layers, taps, strict=True):
        mixer = block.mixer
        mixer.in_proj.weight[here, here] = eye / unit
        mixer.in_proj.weight[on, on] = 1 / size**0.5
        mixer.in_proj.weight[size:, on] = 1 / size**0.5  # the gate
        mixer.conv1d.weight[here, 0] = torch.tensor(np.asarray(of_layer)[:, ::-1].copy())  # its last weight is lag 0
        mixer.conv1d.weight[on, 0, -1] = 1.0
        mixer.x_proj.weight[1:, on] = 1.0  # B and C; the step size is all bias
        mixer.dt_proj.bias.fill_(float(np.log(np.expm1(DELTA))))
        mixer.A_log.fill_(-30.0)  # no decay
        mixer.out_proj.weight[out, here] = eye * read
    return _made(hf, noise, seed, name)


@torch.no_grad()
def llama(*layers: Sequence[tuple[int, int | None, int]], noise: float = 0.0, seed: int = 0, name: str = "known") -> Any:
    """A Llama whose heads, each (block read, lag or None, block written), copy one block of the stream to another.

    A head with a lag attends to the token that many positions back, by the angle between its rotary query and key; one without
    attends to all alike. Block 0 is the token, the logits read block 2. So ``[(0, None, 2)]`` takes a token up where it stands,
    and ``[(0, 1, 1)], [(1, None, 2)]`` one position later.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(map(len, layers))
    size = -(-(3 * TOKENS + 1) // heads) * heads  # Llama wants a multiple
    config = LlamaConfig(
        vocab_size=TOKENS, hidden_size=size, num_hidden_layers=len(layers), num_attention_heads=heads, head_dim=TOKENS,
        intermediate_size=4, tie_word_embeddings=False, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval().double()
    _blank(hf)
    unit, eye = size**0.5 / ON, torch.eye(TOKENS, dtype=torch.float64)
    blocks, on = [slice(n * TOKENS, (n + 1) * TOKENS) for n in range(3)], size - 1
    _stream(hf.model.embed_tokens.weight, hf.lm_head.weight, blocks[2], eye / unit)
    angles = hf.model.rotary_emb.inv_freq.double()
    for block, of_layer in zip(hf.model.layers, layers, strict=True):
        attention = block.self_attn
        for number, (read, lag, write) in enumerate(of_layer):
            head = slice(number * TOKENS, (number + 1) * TOKENS)
            attention.v_proj.weight[head, blocks[read]] = eye / unit
            attention.o_proj.weight[blocks[write], head] = eye
            if lag is not None:
                query = torch.cat([torch.cos(angles * lag), -torch.sin(angles * lag)])
                attention.q_proj.weight[head, on] = 300 * query
                attention.k_proj.weight[head, on] = torch.cat([torch.ones_like(angles), torch.zeros_like(angles)])
    return _made(hf, noise, seed, name)


def _blank(hf: Any) -> None:
    """All parameters zero, but norms, which stay at one."""
    for label, parameter in hf.named_parameters():
        parameter.fill_(1.0 if "norm" in label else 0.0)


def _stream(embed: Any, unembed: Any, out: slice, scale: Any) -> None:
    """Tokens enter the first block, with the entry that is always on; logits are the block ``out``."""
    embed[:, :TOKENS] = torch.eye(TOKENS, dtype=embed.dtype)
    embed[:, -1] = ON
    unembed[:, out] = scale


def _made(hf: Any, noise: float, seed: int, name: str) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in hf.parameters():
        parameter.add_(noise * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return wrap(hf, name=name)
