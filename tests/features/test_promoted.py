"""The tokens that features promote: against the formula written out for each kind of norm, and planted directions."""

from __future__ import annotations

import pytest
import torch

import circuitry as ct
from circuitry.errors import CircuitryError
from circuitry.features.dashboard.promoted import direct_effects, promoted
from circuitry.features.sae import SAE, SAEConfig


@pytest.mark.parametrize("name", ["bundled:gpt_neox", "bundled:mamba", "bundled:rwkv"])
def test_the_effect_is_the_direction_through_norm_and_unembedding(name: str) -> None:
    model = ct.load(name)
    directions = torch.randn(3, 128, generator=torch.Generator().manual_seed(0)) * 5
    unembedding = model.hf.get_output_embeddings().weight
    end = model.graph.place(model.graph.node(f"resid[{model.graph.sizes['layer']}]")).module
    weight = model.hf.get_submodule(end).weight
    centred = directions - directions.mean(-1, keepdim=True) if "mamba" not in name else directions
    scaled = centred / centred.square().mean(-1, keepdim=True).sqrt()
    wanted = (scaled * weight) @ unembedding.T
    torch.testing.assert_close(direct_effects(model, directions), wanted.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bundled:gpt_neox", "bundled:mamba"])
def test_a_planted_direction_promotes_and_suppresses_its_tokens(name: str) -> None:
    model, sae = ct.load(name), SAE(SAEConfig(128, 8))
    unembedding = model.hf.get_output_embeddings().weight.detach()
    [mary], [john] = model.vocabulary.encode(" Mary"), model.vocabulary.encode(" John")
    with torch.no_grad():
        sae.W_dec[3] = unembedding[mary] - unembedding[john]
        sae.W_dec[4] = 0
    found = promoted(model, "resid[4]", sae, [3, 4], count=4)
    assert found[3].up[0][0] == " Mary" and found[3].down[0][0] == " John"
    values = [value for _, value in found[3].up], [value for _, value in found[3].down]
    assert values[0] == sorted(values[0], reverse=True) and values[1] == sorted(values[1])
    assert all(value == 0 for _, value in found[4].up), "no direction, no effect"
    smaller = promoted(model, "resid[4]", sae.scaled(7.0), [3], count=4)
    assert [text for text, _ in smaller[3].up] == [text for text, _ in found[3].up]
    assert smaller[3].up[0][1] == pytest.approx(found[3].up[0][1], rel=1e-4), "a direction counts, not its length"


def test_rows_of_the_unembedding_without_a_token_are_left_out() -> None:
    model, sae = ct.load("bundled:mamba"), SAE(SAEConfig(128, 2))
    rows = len(model.hf.get_output_embeddings().weight)

    class Shorter:
        def __len__(self) -> int:
            return 5

        def decode(self, ids: list[int], **_: object) -> str:
            return f"token {ids[0]}"

        def convert_ids_to_tokens(self, index: int) -> str:
            return str(index)

    assert rows > 5
    model.tokenizer = Shorter()
    assert {text for text, _ in promoted(model, "resid[1]", sae, [0], count=9)[0].up} == {f"token {n}" for n in range(5)}


def test_nodes_that_do_not_write_to_the_stream_are_refused() -> None:
    model = ct.load("bundled:mamba")
    with pytest.raises(CircuitryError, match=r"ssm_in\[1\] does not write to the residual stream"):
        promoted(model, "ssm_in[1]", SAE(SAEConfig(128, 2)), [0])
    with pytest.raises(CircuitryError, match="directions have 64 numbers, the stream of bundled:mamba has 128"):
        promoted(model, "resid[1]", SAE(SAEConfig(64, 2)), [0])
