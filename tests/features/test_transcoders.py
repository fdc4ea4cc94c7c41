"""Transcoders on a model: evaluated by splicing their prediction, encoded, and trained on pairs of activations of one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import circuitry as ct
from circuitry.features.activations import Corpus, activations, corpus, store
from circuitry.features.matching.encode import encode
from circuitry.features.matching.store import FeatureActs
from circuitry.features.sae import SAE, SAEConfig, evaluate
from circuitry.models import Model

TEXTS = [
    "The keys to the cabinet are on the table, and the cabinet is in the hall.",
    "Mary and John went to the store, and John gave a drink to Mary.",
    "It rains in the hills and in the valley, but not in the town.",
]
SOURCE, TARGET = "resid[1]", "mlp[1]"


@pytest.fixture(scope="module")
def model() -> Model:
    return ct.load("bundled:gpt_neox")


@pytest.fixture(scope="module")
def text(model: Model) -> Corpus:
    return corpus(model, TEXTS)


def between(source: str = SOURCE, target: str = TARGET, seed: int = 3) -> SAE:
    config = SAEConfig(128, 256, provenance={"node": source}, target=target, target_width=128)
    return SAE(config, seed=seed)


# --- evaluating --------------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_a_run_by_hand(model: Model, text: Corpus) -> None:
    """By torch's hooks on the stock module: the MLP's output is replaced by what the transcoder makes of the block's input."""
    sae = between()
    row = evaluate(model, sae, text, progress=False).iloc[0]
    block = model.hf.gpt_neox.layers[1]
    seen, splice = dict[str, Tensor](), False

    def before(_module: object, arguments: tuple[Tensor, ...]) -> None:
        seen["x"] = arguments[0]

    def after(_module: object, _arguments: object, output: Tensor) -> Tensor:
        seen["y"] = output
        return torch.cat([output[:, :1], sae(seen["x"][:, 1:])[0]], 1) if splice else output

    handles = [block.register_forward_pre_hook(before), block.mlp.register_forward_hook(after)]
    losses: dict[bool, list[Tensor]] = {False: [], True: []}
    squares, features, targets = 0.0, [], []
    with torch.no_grad():
        for document in range(len(text)):
            ids = torch.from_numpy(text.ids[text.starts[document] : text.starts[document + 1]].astype(np.int64))
            for splice in (False, True):
                logits = model.hf(ids[None]).logits[0]
                losses[splice].append(torch.nn.functional.cross_entropy(logits[1:-1], ids[2:], reduction="none"))
                if not splice:
                    made, fires = sae(seen["x"][0, 1:])
                    squares += float((seen["y"][0, 1:] - made).square().sum())
                    features.append(fires)
                    targets.append(seen["y"][0, 1:])
    for handle in handles:
        handle.remove()
    y, f = torch.cat(targets), torch.cat(features)
    assert row["node"] == TARGET
    assert row["ce_clean"] == pytest.approx(float(torch.cat(losses[False]).mean()), rel=1e-5)
    assert row["ce_spliced"] == pytest.approx(float(torch.cat(losses[True]).mean()), rel=1e-5)
    assert abs(row["ce_spliced"] - row["ce_clean"]) > 0.01, "the splice does something"
    assert row["l0"] == pytest.approx(float((f > 0).sum(1).double().mean()))
    assert row["explained_variance"] == pytest.approx(float(1 - squares / (y - y.mean(0)).square().sum()), rel=1e-4)


def test_a_copy_of_the_stream_takes_the_block_out(model: Model, text: Corpus) -> None:
    """What is spliced in comes from the node that is read: as an autoencoder of the later node, the same weights change nothing."""
    eye = torch.eye(128)
    weights = {
        "W_enc": torch.cat([eye, -eye]).T,
        "b_enc": torch.zeros(256),
        "W_dec": torch.cat([eye, -eye]),
        "b_dec": torch.zeros(128),
    }
    same = SAE.of(SAEConfig(128, 256), weights)
    transcoder = evaluate(model, same.between("resid[1]", "resid[2]"), text, progress=False).iloc[0]
    autoencoder = evaluate(model, {"resid[2]": same}, text, progress=False).iloc[0]
    assert autoencoder["kl"] < 1e-6 and transcoder["kl"] > 0.01


def test_stored_activations_give_the_same(model: Model, text: Corpus, tmp_path: Path) -> None:
    store(activations(model, [SOURCE, TARGET], corpus=text), tmp_path, progress=False)
    ours, stored = (evaluate(*given, progress=False).iloc[0] for given in ((model, between(), text), (tmp_path, between())))
    for column in ("node", "tokens", "l0", "dead"):
        assert ours[column] == stored[column]
    assert ours["explained_variance"] == pytest.approx(stored["explained_variance"], rel=1e-4)


def test_mistakes_are_told(model: Model, text: Corpus) -> None:
    with pytest.raises(ct.CircuitryError, match=r"nothing flows from mlp\[1\] to resid\[1\]"):
        evaluate(model, between(TARGET, SOURCE), text, progress=False)
    with pytest.raises(ct.CircuitryError, match=r"mlp\[1\] has 128 numbers at a token, its transcoder predicts 64"):
        evaluate(model, SAE(SAEConfig(128, 9, target_width=64)).between(SOURCE, TARGET), text, progress=False)
    with pytest.raises(ct.CircuitryError, match=r"resid\[1\] has 128 numbers at a token, its SAE takes 64"):
        evaluate(model, SAE(SAEConfig(64, 9, target_width=128)).between(SOURCE, TARGET), text, progress=False)
    mamba = ct.load("bundled:mamba")
    with pytest.raises(ct.CircuitryError, match="it is a recurrent state"):
        evaluate(mamba, between("resid[1]", "h[1]"), corpus(mamba, TEXTS), progress=False)


def test_its_features_are_those_of_the_node_it_reads(model: Model, text: Corpus, tmp_path: Path) -> None:
    sae = between()
    (acts,) = encode(model, sae, text, tmp_path / "transcoder", progress=False)
    (plain,) = encode(model, {SOURCE: SAE.of(SAEConfig(128, 256), sae.state_dict())}, text, tmp_path / "sae", progress=False)
    assert "mlp[1]" in repr(acts) and "resid[1]" in repr(plain)
    ours, theirs = (_all(one) for one in (acts, plain))
    assert ours.any() and np.array_equal(ours, theirs)


def _all(acts: FeatureActs) -> NDArray[np.float32]:
    return np.asarray(acts.csr().toarray())
