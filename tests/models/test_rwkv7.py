"""RWKV-7: circuitry's own plain model is what the paper's equations say, the instrumented one equals it, and layer 0's values reach every layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

import circuitry as ct
from circuitry.models import mixers, rwkv7
from circuitry.models.delta_rule import delta_rule
from circuitry.models.mixers import exact
from circuitry.models.model import unloaded
from circuitry.native.rwkv7_model import Rwkv7ForCausalLM
from circuitry.planning.metrics import METRICS
from support import tiny
from support.agreement import apart, both, model, planned, ragged

EXACT = 1e-10


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


def tokens(rows: int = 3, length: int = 30) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(0))


# --- the plain model -------------------------------------------------------------------------------------------------------


def by_hand(weights: dict[str, Tensor], ids: list[int], layers: int) -> Tensor:
    """The logits of every token, one token after the other, with vectors and one matrix for each head: the equations of the paper."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    heads, size = weights["blocks.0.att.r_k"].shape
    before: dict[str, Tensor] = {}
    states = torch.zeros(layers, heads, size, size, dtype=torch.float64)  # [layer, head, value, key], as in the paper
    out = []
    for number in ids:
        x, first = norm(weights["emb.weight"][number], "blocks.0.ln0"), None
        for layer in range(layers):
            w = {name.removeprefix(f"blocks.{layer}."): value for name, value in weights.items()}
            now = norm(x, f"blocks.{layer}.ln1")
            last = before.get(f"att {layer}", torch.zeros_like(now))
            before[f"att {layer}"] = now
            r_in, w_in, k_in, v_in, a_in, g_in = (now + (last - now) * w[f"att.x_{c}"].flatten() for c in "rwkvag")
            r, k, v = (w[f"att.{name}.weight"] @ y for name, y in (("receptance", r_in), ("key", k_in), ("value", v_in)))
            shrink = torch.exp(
                -math.exp(-0.5) * torch.sigmoid(w["att.w0"].flatten() + torch.tanh(w_in @ w["att.w1"]) @ w["att.w2"])
            )
            a = torch.sigmoid(w["att.a0"].flatten() + a_in @ w["att.a1"] @ w["att.a2"])
            g = torch.sigmoid(g_in @ w["att.g1"]) @ w["att.g2"]
            if first is None:
                first = v
            else:
                v = torch.lerp(v, first, torch.sigmoid(w["att.v0"].flatten() + v_in @ w["att.v1"] @ w["att.v2"]))
            kappa, k = k * w["att.k_k"].flatten(), torch.lerp(k, k * a, w["att.k_a"].flatten())
            got = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                e = kappa[part] / kappa[part].norm()
                transition = torch.diag(shrink[part]) - torch.outer(e, a[part] * e)
                states[layer, head] = states[layer, head] @ transition + torch.outer(v[part], k[part])
                y = states[layer, head] @ r[part]
                y = (y - y.mean()) / (y.var(unbiased=False) + 64e-5).sqrt()
                y = y * w["att.ln_x.weight"][part] + w["att.ln_x.bias"][part]
                got.append(y + (r[part] * w["att.r_k"][head] * k[part]).sum() * v[part])
            x = x + w["att.output.weight"] @ (torch.cat(got) * g)
            now = norm(x, f"blocks.{layer}.ln2")
            last = before.get(f"ffn {layer}", torch.zeros_like(now))
            before[f"ffn {layer}"] = now
            inner = w["ffn.key.weight"] @ (now + (last - now) * w["ffn.x_k"].flatten())
            x = x + w["ffn.value.weight"] @ inner.clamp(min=0).square()
        out.append(weights["head.weight"] @ norm(x, "ln_out"))
    return torch.stack(out)


def test_the_plain_model_is_what_the_equations_say() -> None:
    hf, ids = tiny.stock("rwkv7"), tokens(rows=1, length=12)
    wanted = by_hand(dict(hf.state_dict()), ids[0].tolist(), layers=3)
    assert (logits(hf, ids)[0] - wanted).abs().max() < EXACT < wanted.abs().max()


def test_only_some_logits_and_the_stream_of_every_layer() -> None:
    hf, ids = tiny.stock("rwkv7"), tokens()
    whole = hf(ids, output_hidden_states=True)
    torch.testing.assert_close(logits(hf, ids, logits_to_keep=2), whole.logits[:, -2:])
    torch.testing.assert_close(logits(hf, ids, logits_to_keep=torch.tensor([0, 5])), whole.logits[:, [0, 5]])
    assert len(whole.hidden_states) == 4 and torch.equal(hf.head(whole.hidden_states[-1]), whole.logits)
    assert torch.equal(hf(inputs_embeds=hf.emb(ids)).logits, whole.logits)


def test_it_generates_what_whole_prompts_give() -> None:
    ours, ids = tiny.model("rwkv7", dtype=torch.float32), tokens(length=5)
    found = ours.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, eos_token_id=None)
    for _ in range(4):
        ids = torch.cat([ids, logits(ours.hf, ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, ids)


# --- the instrumented model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16, torch.float64))
def test_the_instrumented_model_gives_the_same_bits(dtype: torch.dtype) -> None:
    """The fast scan is about as far from float64 as the plain loop."""
    hf, ids = tiny.stock("rwkv7", dtype=dtype), tokens(length=70)
    plain = logits(hf, ids)
    ours = ct.load(hf, dtype=dtype)
    with exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids), plain)
    with ct.load(tiny.stock("rwkv7", dtype=dtype), dtype="float64") as wide:
        true = logits(wide.hf, ids)
    fast, theirs = ((values.double() - true).norm() for values in (logits(ours.hf, ids), plain))
    assert fast < max(2 * theirs, 1e-12 * true.norm()) < 0.3 * true.norm()


def test_the_state_is_the_recurrences() -> None:
    """After two tokens, from what is written: the second token erases what it finds before the state shrinks."""
    ours, ids, seen = tiny.model("rwkv7"), tokens(1, 2), dict[str, Tensor]()
    points = ours.mixers[1].circuitry
    for name in ("state", "write_key", "write_value", "write_probe", "write_erase", "write_decay"):
        getattr(points, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out[0]}))
    points.stops = (1,)
    logits(ours.hf, ids)
    key, value, probe, erase, decay = (seen[f"write_{part}"][:, 1] for part in ("key", "value", "probe", "erase", "decay"))
    state = torch.outer(key[0], value[0])
    state = decay[1].exp()[:, None] * state - torch.outer(erase[1], probe[1] @ state) + torch.outer(key[1], value[1])
    assert (seen["state"][1] - state).abs().max() < EXACT < state.abs().max()
    assert -math.exp(-0.5) < decay.min() and decay.max() < 0 and torch.allclose(probe.norm(dim=-1), torch.ones(2).double())


def test_a_layer_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(mixers, "_stock_logits", lambda hf, ids: 1.01 * logits(hf, ids))
        with pytest.raises(ct.ModelError, match=r"RWKV-7: instrumented logits differ from the stock model's by"):
            tiny.model("rwkv7")
    with monkeypatch.context() as patched:
        patched.setattr(rwkv7, "delta_rule", lambda *args: delta_rule(*args).flip(-1))
        with pytest.raises(ct.ModelError, match="the fast scan differs from the exact one by"):
            tiny.model("rwkv7")
    real_mix = rwkv7._mixed
    monkeypatch.setattr(rwkv7, "_mixed", lambda *args: [1.01 * part for part in real_mix(*args)])
    with pytest.raises(ct.ModelError, match=r"^instrumented channel mixing differs from the plain model's by "):
        tiny.model("rwkv7")


class _OtherConfig(PreTrainedConfig):  # type: ignore[misc]
    model_type = "rwkv7"


class OtherRwkv7(PreTrainedModel):  # type: ignore[misc]
    config_class = _OtherConfig


def test_another_model_of_this_type_is_refused() -> None:
    """There is code of others with the same ``model_type``."""
    with pytest.raises(ct.ModelError, match=r"^OtherRwkv7 is not circuitry's Rwkv7ForCausalLM, .* give ct.load the author's"):
        ct.load(OtherRwkv7(_OtherConfig()))


def test_a_size_can_be_had_without_weights() -> None:
    """Those of the author's smallest."""
    ours = unloaded(Rwkv7ForCausalLM.config_class())
    assert f"{ours.parameters / 1e6:.0f}" == "191" and ours.graph.sizes == {"layer": 12, "state_head": 12, "lag": 2}


# --- what layers share beside the stream -----------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ("rows", "reference"))
def test_runs_that_begin_alike_have_their_own_first_values(executor: str) -> None:
    """Both write the same in layer 0, and go on with different writes."""
    ours, prompts = model("rwkv7"), ragged(4)
    paths = ["(value[0,0] @ B, mlp[1] @ B) -> logits", "(value[0,0] @ B, mlp[1] @ END) -> logits"]
    assert apart(ours, planned(ours, paths, prompts), prompts, tuple(METRICS)[:1], others=(executor,)) < EXACT


@pytest.mark.parametrize(
    "path",
    (
        "value[0,{state_head}] @ B -> first_value[2,{state_head}] @ B",
        "value[0,1] @ B -> wkv_out[2,1] @ END freezing mixer_out, mlp",
        "embed @ B -> first_value[2,0] @ B freezing resid_mid[0]",
        "(value[0,0] @ A, mlp[0] @ B) -> logits freezing first_value[1]",
    ),
)
def test_layer_0s_values_pass_the_stream_by(path: str) -> None:
    cells = both(model("rwkv7"), path, ragged())
    assert max(cell.error for cell in cells) < EXACT and min(cell.effect for cell in cells) > 1e-6


def test_nothing_reaches_a_first_value_but_over_layer_0() -> None:
    ours = model("rwkv7")
    with pytest.raises(ct.CircuitryError, match="exactly zero"):
        both(ours, "embed @ B -> first_value[2] @ B freezing value", ragged())
    with pytest.raises(ct.CircuitryError, match="nothing flows from"):
        both(ours, "mlp[0] @ B -> first_value[2] @ B", ragged())


def test_directly_leaves_only_a_sources_own_layer_live() -> None:
    """Layer 1 reads layer 0's values as well, and what it then adds to the stream is not direct."""
    from circuitry.planning import plan

    graph = model("rwkv7").graph

    def frozen(path: str) -> list[str]:
        return sorted(map(str, plan(path, graph).cells[0].passes[0].frozen))

    assert frozen("value[0,0] @ 4 -> logits @ 4 directly") == ["mixer_out[1]", "mixer_out[2]", "mlp[0]", "mlp[1]", "mlp[2]"]
    assert frozen("(value[0,0] @ 4, gate[1] @ 4) -> logits @ 4 directly") == ["mixer_out[2]", "mlp[0]", "mlp[1]", "mlp[2]"]


def test_a_layer_without_a_node_is_not_told_from_others_of_its_kind() -> None:
    with pytest.raises(ct.PathError, match=r"^layer 0 of 'first_value' does not exist\n"):
        ct.patch(tiny.model("rwkv7"), ct.task("induction", distance=4, examples=2), "first_value[0,0] @ B -> logits", lint=False)
