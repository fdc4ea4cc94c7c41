"""Revisions of a name on the Hugging Face hub, of which the client's cache on this machine stands for the hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry import CircuitryError, ModelError
from circuitry.content import BUNDLED
from support import tiny
from support.command import called, circuitry

NAME = "somebody/tiny"
"""A model in two states of its training, step1 and step2; main is at step2."""
SHORT = ("-o", "distance=8", "--examples", "4")


MINE = """
import circuitry as ct

SUITE = ct.Suite("mine", "MLPs", "induction", options={"distance": 8}, tables=[
    ct.TableSpec("mlp", "MLP of every layer", "mlp[{layer}] @ END -> logits", axes={"layer": [0, 1]}),
])
"""


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The commits by their branches."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    where = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}"
    commits = {}
    for branch, name in (("step1", "gpt_neox"), ("step2", "gpt_neox_s1")):
        commits[branch] = hashlib.sha1(branch.encode()).hexdigest()
        folder = where / "snapshots" / commits[branch]
        folder.mkdir(parents=True)
        for file in (BUNDLED / name).iterdir():
            (folder / file.name).symlink_to(file)
    commits["main"] = commits["step2"]
    (where / "refs").mkdir()
    for branch, commit in commits.items():
        (where / "refs" / branch).write_text(commit)
    return commits


def test_every_revision_is_a_model_of_its_own(hub: dict[str, str]) -> None:
    one, two = ct.load(NAME, revision="step1"), ct.load(f"{NAME}@step2")
    assert one.fingerprint != two.fingerprint
    assert (one.name, two.name) == (f"{NAME}@step1", f"{NAME}@step2")
    assert ct.load(NAME).name == NAME and ct.load(NAME).fingerprint == two.fingerprint
    assert ct.load(one.name).fingerprint == one.fingerprint == ct.load(NAME, revision=hub["step1"]).fingerprint
    assert one.tokenizer is not None and one.hf.config._commit_hash == hub["step1"]


def test_the_weights_are_those_that_transformers_reads_there() -> None:
    from transformers import AutoModelForCausalLM

    for revision in ("step1", "step2"):
        stock = AutoModelForCausalLM.from_pretrained(NAME, revision=revision, use_safetensors=True)
        assert ct.load(NAME, revision=revision).fingerprint == ct.load(stock).fingerprint


def test_a_table_says_which_revision_it_is_of(hub: dict[str, str]) -> None:
    task = ct.task("induction", distance=8, examples=2)
    model = ct.load(NAME, revision="step1")
    table = ct.patch(model, task, "mlp[0] -> logits", baseline=0)
    assert (table.provenance["model"], table.provenance["commit"]) == (f"{NAME}@step1", hub["step1"])
    assert "commit" not in ct.patch(ct.load("bundled:gpt_neox"), task, "mlp[0] -> logits", baseline=0).provenance


def test_runs_of_two_revisions_are_two_runs(hub: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    how = ("--examples", "4", "--out", str(tmp_path / "runs"))
    circuitry("run", str(tmp_path / "mine.py"), "--model", NAME, "--revision", "step1", *how)
    circuitry("run", str(tmp_path / "mine.py"), "--model", f"{NAME}@step2", *how)
    folders = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == ["mine-tiny-step1", "mine-tiny-step2"]
    for folder, step in zip(folders, ("step1", "step2"), strict=True):
        record = json.loads((folder / "run.json").read_text())
        assert (record["model"], record["commit"]) == (f"{NAME}@{step}", hub[step])


COMMANDS: dict[str, tuple[str, ...]] = {
    "patch": ("patch", NAME, "mlp[0] -> logits", *SHORT, "--baseline", "0"),
    "explain": ("explain", NAME, "mlp[0] -> logits", *SHORT),
    "sensitivity": ("sensitivity", NAME, "mlp[0] -> logits", *SHORT),
    "graph": ("graph", NAME),
    "sae train": ("sae", "train", NAME, "mlp[0]", "--out", "OUT"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_one_model_take_a_revision(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def load(name: str, **how: Any) -> Any:
        asked.append((name, how["revision"]))
        raise CircuitryError("that is all")

    monkeypatch.setattr("circuitry.models.loading.load", load)
    words = [str(tmp_path) if word == "OUT" else word for word in COMMANDS[command]]
    for given, wanted in (((), None), (("--revision", "step1"), "step1")):
        assert called(*words, *given) == (2, "", "that is all\n")
        assert asked.pop() == (NAME, wanted)


@pytest.mark.parametrize("command", ("evaluate", "encode"))
def test_the_revision_an_autoencoder_was_trained_on_is_found_again(command: str, tmp_path: Path) -> None:
    where, texts = tmp_path / "sae", tmp_path / "a.txt"
    texts.write_text("Some words, and some more of them. " * 40)
    circuitry("sae", "train", NAME, "mlp[0]", "--revision", "step1", "--out", str(where), "--texts", str(texts), "--tokens", "256",
        "--expansion", "1", "--batch", "32", "--buffer", "64", "--context", "32")  # fmt: skip
    words = ["sae", command, str(where), "--texts", str(texts), "--tokens", "64", "--context", "32"]
    words += ["--out", str(tmp_path / "acts"), "--corpus", str(tmp_path / "c.safetensors")] if command == "encode" else []
    circuitry(*words)
    code, _, err = called(*words, "--revision", "step2")
    assert (
        code == 2 and err.splitlines()[-1] == f"{NAME}@step1 names one revision and revision='step2' another; give one of the two"
    )


def test_several_models_may_be_revisions_of_one(tmp_path: Path) -> None:
    out = circuitry("offsets", f"{NAME}@step1", f"{NAME}@step2", "-o", "distance=8", "--examples", "12", "--reach", "1")
    assert f"{NAME}@step1" in out and f"{NAME}@step2" in out


REFUSED: dict[str, tuple[str, str | None, type[CircuitryError], str]] = {
    "unknown": (NAME, "step9", ModelError, f"'{NAME}@step9' could not be loaded: it is not a folder, and it could not be downloaded from the Hugging Face Hub (*"),
    "two": (f"{NAME}@step1", "step2", CircuitryError, f"{NAME}@step1 names one revision and revision='step2' another; give one of the two"),
    "bundled": ("bundled:mamba", "main", CircuitryError, "revision='main' needs a name on the Hugging Face Hub, and bundled:mamba is not one"),
    "compiled": ("compiled:mamba", "main", CircuitryError, "revision='main' needs a name *, and compiled:mamba is not one"),
    "file": ("model.gguf", "main", CircuitryError, "revision='main' needs a name *, and model.gguf is not one"),
    "RWKV": ("RWKV-4.pth", "main", CircuitryError, "revision='main' needs a name *, and RWKV-4.pth is not one"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_revision_goes_with_a_name_on_the_hub(name: str) -> None:
    what, revision, error, text = REFUSED[name]
    with pytest.raises(error) as found:
        ct.load(what, revision=revision)
    start, star, end = text.partition("*")
    assert str(found.value).startswith(start) and (star or str(found.value) == start) and str(found.value).endswith(end)


def test_a_folder_and_a_model_have_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf = tiny.stock("gpt2")
    hf.save_pretrained(tmp_path / "it@step1")
    assert ct.load(tmp_path / "it@step1").name == str(tmp_path / "it@step1")
    for what, name in ((tmp_path / "it@step1", tmp_path / "it@step1"), (hf, "GPT2LMHeadModel")):
        with pytest.raises(
            CircuitryError, match=rf"^revision='main' needs a name on the Hugging Face Hub, and {name} is not one$"
        ):
            ct.load(what, revision="main")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it@step1").rename(tmp_path / "it")
    for what, revision in (("it@step1", None), ("it", "step1")):
        with pytest.raises(CircuitryError, match=r"^revision='step1' needs a name on the Hugging Face Hub, and it is not one$"):
            ct.load(what, revision=revision)
