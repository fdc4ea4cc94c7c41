"""Features on a custom text, by the function and by the command, and the tokens that features promote on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.features import app
from circuitry.errors import CircuitryError
from circuitry.executing.activations import read
from circuitry.features.activations.corpus import corpus
from circuitry.features.dashboard.custom_text import OnText, TextFeatures, text_features, write_text_page
from circuitry.features.dashboard.source import Source
from circuitry.features.matching.encode import encode
from circuitry.features.matching.mppc import mppc
from circuitry.features.sae import SAE, SAEConfig
from support.browsing import Open

if TYPE_CHECKING:
    from circuitry.models.model import Model

TEXT = "When Mary and John went to the store, John gave a drink to Mary."
TEXTS = [f"{TEXT} It was {number} o'clock." for number in range(8)]


def autoencoder(model: Model, node: str, seed: int) -> SAE:
    provenance = {"node": node, "model": model.name, "weights": model.fingerprint}
    return SAE(SAEConfig(128, 64, provenance=provenance), seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Autoencoders of two models, their activations on a corpus, and matches."""
    made = tmp_path_factory.mktemp("own")
    models = {name: ct.load(f"bundled:{name}") for name in ("gpt_neox", "mamba")}
    text = corpus(models["mamba"], TEXTS, progress=False)
    text.save(made / "corpus.safetensors")
    acts = []
    for seed, (name, model) in enumerate(models.items()):
        sae = autoencoder(model, "resid[2]", seed)
        sae.save(made / "saes" / name)
        acts.append(encode(model, sae, text, made / name, progress=False))
    mppc(*acts, progress=False, min_count=2).save(made / "matches")
    return made


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_activations_are_those_of_the_model_and_its_autoencoder() -> None:
    model = ct.load("bundled:mamba")
    sae = autoencoder(model, "resid[2]", 0)
    found = text_features(Source(model, {"resid[2]": sae}), TEXT, top=3, features=["resid[2].latent[17]"])
    ids = np.array([[*model.vocabulary.front, *model.vocabulary.encode(TEXT)]])
    with torch.no_grad():
        dense = sae.encode(read(model, ["resid[2]"], ids)[model.graph.node("resid[2]")])[0].numpy()[1:]
    assert "".join(found.tokens) == TEXT and len(dense) == len(found.tokens), "without the token of the beginning"
    by_name = {feature.name: feature for feature in found.features}
    np.testing.assert_allclose(by_name["resid[2].latent[17]"].values, dense[:, 17], rtol=1e-5)
    most = [n for n in np.argsort(-dense.max(0)) if n != 17][:3]
    assert [f.name for f in found.features if not f.asked] == [f"resid[2].latent[{n}]" for n in most]
    for number in most:
        np.testing.assert_allclose(by_name[f"resid[2].latent[{number}]"].values, dense[:, number], rtol=1e-5)
    assert found.features[0].asked and found.text().count("' Mary'") >= 2


def test_mistakes_in_a_text_or_feature() -> None:
    model = ct.load("bundled:gpt_neox")
    source = Source(model, {"resid[2]": autoencoder(model, "resid[2]", 0)})
    for features, message in (
        (["resid[2]"], "expected a feature, got resid\\[2\\]; write its node and number"),
        (["resid[3].latent[1]"], r"needs an autoencoder of resid\[3\]; those given are of resid\[2\]"),
        (["resid[2].latent[64]"], "has no latent 64: it has 64; count from 0 to 63"),
    ):
        with pytest.raises(CircuitryError, match=message):
            text_features(source, TEXT, features=features)
    with pytest.raises(CircuitryError, match="the text is empty"):
        text_features(source, "")
    with pytest.raises(CircuitryError, match=r"the text has \d+ tokens, and bundled:gpt_neox reads"):
        text_features(source, TEXT * 200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_every_activation_and_escapes_text(show: Open, tmp_path: Path, scheme: Any) -> None:
    evil = "<script>window.hacked = 1</script>"
    found = TextFeatures("m <i>", (" a", evil, " "), (OnText("resid[1].latent[7]", (0.0, 2.5, 1.0), asked=True),))
    page = show(write_text_page([found], tmp_path / "text.html"), color_scheme=scheme, width=400)
    assert evil not in (tmp_path / "text.html").read_text()
    assert page.locator(".tokens > span").all_inner_texts() == [" a\n0", f"{evil}\n2.5", "␣\n1"]
    colours = page.locator(".tokens > span").evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
    assert len(set(colours)) == 3, "the more active, the deeper"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_command_reads_a_text_without_activations(folder: Path, tmp_path: Path) -> None:
    both: list[str | Path] = [word for name in ("gpt_neox", "mamba") for word in ("--saes", folder / "saes" / name)]
    done = run("--text", TEXT, *both, "--feature", "resid[2].latent[5]", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "features of bundled:gpt_neox on" in done.output and "features of bundled:mamba on" in done.output
    assert done.output.count("resid[2].latent[5]  ") == 2
    assert [file.name for file in tmp_path.iterdir()] == ["text.html"]


def test_the_page_of_matches_has_promoted_tokens_where_autoencoders_are_given(show: Open, folder: Path, tmp_path: Path) -> None:
    files: list[str | Path] = ["--matches", folder / "matches", "--corpus", folder / "corpus.safetensors", "--out", tmp_path]
    plain = run(folder / "gpt_neox", folder / "mamba", *files)
    assert plain.exit_code == 0 and '"up":' not in (tmp_path / "features.html").read_text()
    done = run(folder / "gpt_neox", folder / "mamba", *files, "--saes", folder / "saes" / "mamba")
    assert done.exit_code == 0, done.output
    page = show(tmp_path / "features.html")
    assert page.locator(".one .effects").count() == 0 and page.locator(".two .effects dt").all_inner_texts() == [
        "promotes",
        "suppresses",
    ]
    shown = page.locator(".two .effects dd >> nth=0").locator("span")
    assert shown.count() == 10 and re.fullmatch(r"\+[\d.]+ on its logit", str(shown.first.get_attribute("title")))


def test_flags_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    files: list[str | Path] = ["--matches", folder / "matches", "--corpus", folder / "corpus.safetensors", "--out", tmp_path]
    acts: list[str | Path] = [folder / "gpt_neox", folder / "mamba"]
    autoencoder(ct.load("bundled:mamba"), "resid[2]", 7).save(tmp_path / "other")
    for words, message in (
        (["--text", TEXT, "--saes", tmp_path / "other", "--scorer", "proxy"], "--scorer has no effect: only a text is read"),
        (["--text", TEXT], "--text needs autoencoders"),
        ([*acts, *files, "--feature", "resid[2].latent[5]"], "--feature has no effect: no text is read"),
        ([*acts, *files, "--model", "bundled:mamba"], "expected 0, got 1"),
        ([*acts, *files, "--saes", tmp_path / "other"], "none of the autoencoders of --saes wrote these activations"),
        ([folder / "gpt_neox"], "give two folders of activations with --matches and --corpus; or --text with --saes"),
    ):
        done = run(*words)
        assert isinstance(done.exception, CircuitryError) and message in str(done.exception), (words, done.exception)
