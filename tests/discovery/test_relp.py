"""RelP: the backward pass follows the rules of relevance propagation, and nothing else about the model changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import circuitry as ct
from circuitry.discovery.methods.relp import Relp
from circuitry.discovery.norms import frozen
from circuitry.discovery.relevance import identity, rules
from circuitry.discovery.search import asked
from circuitry.errors import CircuitryError
from support import tiny

EXPERTS = ("jamba-moe", "mixtral", "granitemoehybrid-moe", "nemotron_h")
KINDS = [kind for kind in tiny.CONFIGS if kind not in (*EXPERTS, "lfm2")]
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 61, (2, 7)))


def without_biases(kind: str) -> Any:
    """A model whose every layer gives 0 for 0: a bias would take its own part of the relevance."""
    # The cap of logits belongs to the metric here, and no metric that is not linear in logits conserves relevance.
    caps: dict[str, dict[str, Any]] = {"gemma2": {"final_logit_softcapping": None}, "recurrent_gemma": {"logits_soft_cap": 1e6}}
    hf = tiny.stock(kind, **caps.get(kind, {}))
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if name.endswith("bias") and "dt" not in name:
                parameter.zero_()
    return ct.load(hf, dtype="float64")


def run(model: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The sum of some logits, and the stream before each layer, with gradients."""
    out = model.hf(IDS, use_cache=False, output_hidden_states=True)
    return out.logits[:, -1, :9].sum(), out.hidden_states[: model.graph.sizes["layer"]]


def relevance(stream: Sequence[Tensor], grads: Sequence[Tensor]) -> NDArray[Any]:
    """Of each stage [stage]: its values times the gradient, added up."""
    return np.array([(value * grad).sum().item() for value, grad in zip(stream, grads, strict=True)])


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.startswith("zamba2")]
)  # it reads the embedding beside the stream
def test_relevance_is_conserved_from_layer_to_layer(kind: str) -> None:
    model = without_biases(kind)
    with rules(model, constant_patterns=True):
        total, stream = run(model)
        grads = torch.autograd.grad(total, stream, retain_graph=True)
    whole = slice(1) if model.graph.skips else slice(None)  # past layer 0, some of it does not flow in the stream
    np.testing.assert_allclose(relevance(stream, grads)[whole], total.item(), rtol=1e-4)
    total, stream = run(model)
    plain = relevance(stream, torch.autograd.grad(total, stream))
    assert min(abs(plain / total.item() - 1)) > 1e-3, "nothing to see: plain gradients conserve it too"


@pytest.mark.parametrize("kind", [*KINDS, "gemma", "olmo", "phi3", "nemotron", "starcoder2"])
def test_values_are_the_same_bit_for_bit_and_rules_end_with_the_context(kind: str) -> None:
    model = tiny.model(kind)
    plain, stream = run(model)
    before = torch.autograd.grad(plain, stream)
    with rules(model):
        ruled, stream = run(model)
        within = torch.autograd.grad(ruled, stream)
    assert torch.equal(plain, ruled)
    assert not torch.allclose(before[0], within[0], rtol=1e-3)
    plain, stream = run(model)
    assert all(map(torch.equal, torch.autograd.grad(plain, stream), before))


def norms() -> list[tuple[Any, Tensor, Tensor]]:
    """Norms; what the gradient of each is but for the scale [d, d]; their scales [pos, d], from values alone."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

    x, centre = INPUT, torch.eye(6) - 1 / 6
    cases: list[tuple[Any, Tensor, Any]]
    cases = [(nn.LayerNorm(6), centre, lambda w: w), (LlamaRMSNorm(6, 1e-5), torch.eye(6), lambda w: w)]
    cases += [(GemmaRMSNorm(6, 1e-5), torch.eye(6), lambda w: 1 + w), (OlmoLayerNorm(6), centre, lambda w: torch.ones(6))]
    found = []
    for norm, linear, gain in cases:
        weight = getattr(norm, "weight", None)
        if weight is not None:
            nn.init.normal_(weight)
        variance = (x @ linear).square().mean(-1, keepdim=True)
        found.append((norm, gain(weight)[:, None] * linear, (variance + 1e-5).rsqrt().expand(5, 6)))
    return found


INPUT = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1, 2, 5, 9])[:, None]


@pytest.mark.parametrize("number", range(4))
def test_a_norm_has_the_gradient_of_a_linear_map(number: int) -> None:
    norm, linear, scale = norms()[number]
    norm.register_forward_hook(frozen(norm))
    for token in range(5):
        x = INPUT[token].clone().requires_grad_()
        jacobian = torch.stack([torch.autograd.grad(out, x, retain_graph=True)[0] for out in norm(x)])
        torch.testing.assert_close(jacobian, (linear * scale[token]).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ReLU()])
def test_an_activation_has_the_gradient_of_its_share(activation: nn.Module) -> None:
    x = torch.tensor([-2.0, 0.5, 3.0, 0.0], requires_grad=True)
    slope = torch.autograd.grad(activation(x).sum(), x)[0][3:]
    wanted = torch.cat([(activation(x) / x).detach()[:3], slope])
    activation.register_forward_hook(identity(activation))
    activation(x).sum().backward()
    torch.testing.assert_close(x.grad, wanted)


@pytest.mark.parametrize(
    ("kind", "ports"),
    [
        ("mamba", {"ssm_in.delta", "ssm_in.B", "ssm_in.C"}),
        ("mamba2", {"delta", "ssm_in.B", "ssm_in.C"}),
        ("rwkv", {"gate", "mlp_gate"}),
        ("recurrent_gemma", {"input_gate", "recurrent_gate"}),
        ("rwkv7", {"gate", "key", "receptance", "decay", "rate"}),
    ],
)
def test_constants_have_no_attribution(kind: str, ports: set[str]) -> None:
    about = asked(tiny.model(kind), ct.task("induction", distance=4, examples=2), level="node")
    scores = Relp().scores(about)
    named = [re.sub(r"\[.*?\]", "", str(node)) for node in about.items]
    assert ports < set(named)
    for number, name in enumerate(named):
        if name in ports:
            assert not scores[:, number].any(), name
        elif name in ("ssm_out", "wkv_out", "mixer_out"):
            assert scores[:, number].any(), name


@pytest.mark.parametrize("kind", ["llama", "rwkv"])
def test_keys_have_an_attribution_unless_patterns_are_constant(kind: str) -> None:
    about = asked(tiny.model(kind), ct.task("induction", distance=4, examples=2), level="node")
    keys = np.array([str(node).endswith((".q", ".k", "wkv_in[0].key", "wkv_in[1].key")) for node in about.items])
    assert Relp().scores(about)[:, keys].any() and not Relp(constant_patterns=True).scores(about)[:, keys].any()


@pytest.mark.parametrize("kind", [*EXPERTS, "qwen2_moe"])
def test_experts_are_refused(kind: str) -> None:
    model = tiny.model(kind)
    with pytest.raises(CircuitryError, match=r"relevance cannot pass through \w+: no rule is known"), rules(model):
        pass


class LargestNorm(nn.Module):
    """It divides by the largest entry."""

    weight = torch.ones(6)

    def forward(self, x: Tensor) -> Tensor:
        return x / x.abs().amax(-1, keepdim=True)


def test_what_no_rule_fits_is_refused() -> None:
    with pytest.raises(CircuitryError, match="Sigmoid: the identity rule is for activations that are 0 at 0"):
        identity(nn.Sigmoid())
    with pytest.raises(CircuitryError, match="LargestNorm: it is neither"):
        frozen(LargestNorm())
    hf = tiny.stock("gpt_neox")
    for layer in hf.gpt_neox.layers:
        del layer.mlp.act
        layer.mlp.act = torch.tanh
    model = ct.load(hf, dtype="float64")
    with pytest.raises(CircuitryError, match=r"GPTNeoXMLP of mlp\[0\]: its activation is not a module"), rules(model):
        pass
