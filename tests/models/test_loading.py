"""What ``ct.load`` takes, and what it says of the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError, ModelError
from support import tiny
from support.refusals import matches

pytestmark = pytest.mark.usefixtures("offline")


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(hf: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False).logits
    return found


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    hf = tiny.stock("gpt2", dtype=torch.float32)
    hf.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_saved_model_loads_from_its_folder(kind: str, tmp_path: Path) -> None:
    hf = tiny.stock(kind, dtype=torch.float32)
    hf.save_pretrained(tmp_path)
    ours = ct.load(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir() if "model" in path.name) == [".safetensors"]
    assert (logits(ours.hf, tokens()) - logits(hf, tokens())).abs().max() < 1e-4
    assert ours.name == str(tmp_path) and ours.tokenizer is None and not ours.hf.training
    assert repr(ours) == f"<{tmp_path}: {ours.graph.name}, {ours.parameters / 1e6:.2f}M parameters, torch.float32, cpu>"
    assert ours.parameters == sum({p.data_ptr(): p.numel() for p in hf.parameters()}.values())


def config(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> Path:
        known = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in {**known, **changes}.items() if v is not None}))
        return folder

    return change


def pickled(folder: Path) -> Path:
    torch.save(tiny.stock("gpt2").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def weightless(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder


def damaged(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:300])
    return folder


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def no_json(folder: Path) -> Path:
    (folder / "config.json").write_text("{")
    return folder


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bundled": (lambda _: "bundled:nothing", "expected a bundled model, got 'bundled:nothing'; known here: *"),
    "hub": (
        lambda _: "nobody/nothing",
        "'nobody/nothing' could not be loaded: it is not a folder, and it could not be downloaded from the Hugging Face Hub (*). "
        "Offline, these work: *a folder, or a .gguf file",
    ),
    "missing": (lambda folder: folder / "deeper", "'FOLDER/deeper' could not be loaded: it is not a folder, *"),
    "empty": (emptied, "FOLDER is a folder without config.json, so it is not a Hugging Face model"),
    "not json": (no_json, "FOLDER holds no model that transformers knows: *is not a valid JSON file."),
    "no type": (config(model_type=None), "FOLDER holds no model that transformers knows: *Should have a `model_type` key*"),
    "new type": (config(model_type="rwkv99"), "FOLDER holds no model that transformers knows: *has model type `rwkv99`*"),
    "other type": (
        config(model_type="bert"),
        "no graph for models of type 'bert': known here: *. To add one, write a custom file that defines ARCHITECTURE: ct.load(..., graph='./mine.py')",
    ),
    "pickled": (
        pickled,
        "no safetensors weights for 'FOLDER'; pickled weights are not loaded; convert them once: circuitry convert FOLDER NEW*",
    ),
    "nothing to load": (weightless, "no safetensors weights for 'FOLDER'; pickled weights are not loaded"),
    "damaged": (damaged, "the weights in FOLDER/model.safetensors cannot be read: *"),
    "incomplete": (
        config(n_layer=4),
        "FOLDER lacks 12 weights of a gpt2 of its sizes, such as transformer.h.3.attn.c_attn.bias; it is incomplete, or not a *",
    ),
    "other shapes": (
        config(n_embd=32),
        "FOLDER has 40 weights that a gpt2 of its sizes has in other shapes, such as "
        "transformer.h.0.attn.c_attn.bias: expected (96,), got (48,)",
    ),
    "no file": (lambda folder: folder / "model.gguf", "no file FOLDER/model.gguf"),
    "no model": (
        lambda _: torch.nn.Linear(2, 2),
        "Linear is not a Hugging Face model; give a name, a folder, a GGUF file or such a model",
    ),
    "nothing": (lambda _: None, "NoneType is not a Hugging Face model; give a name, a folder, a GGUF file or such a model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_loaded_says_why(name: str, saved: Path) -> None:
    make, text = REFUSED[name]
    what = make(saved)
    with pytest.raises(ModelError) as found:
        ct.load(what)
    matches(str(found.value), text.replace("FOLDER", str(saved)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float23"}, "expected a dtype, got 'float23'; did you mean 'float32'?"),
        ({"dtype": "int8"}, "expected a dtype, got 'int8'; known here: bfloat16, float16, float32, float64"),
        ({"device": "nowhere"}, "device 'nowhere' is not available (*); 'cpu' works everywhere"),
    ],
)
def test_a_wrong_option_says_what_would_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        ct.load(tiny.stock("gpt2"), **options)
    matches(str(found.value), message)


def test_gguf_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.gguf").write_bytes(b"no GGUF")
    if find_spec("gguf"):
        with pytest.raises(ModelError, match=r"^x.gguf could not be read as GGUF: "):
            ct.load(tmp_path / "x.gguf")
    monkeypatch.setattr("circuitry.models.gguf.load.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"^reading GGUF files needs the extra: pip install 'circuitry-lm\[gguf\]'$"):
        ct.load(tmp_path / "x.gguf")


# --- what transformers says meanwhile --------------------------------------------------------------------------------------


def test_loading_says_nothing(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    ct.load(saved)
    ct.load("bundled:mamba")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", (True, False))
@pytest.mark.parametrize("hub_bars", (True, False))
def test_what_transformers_shows_is_your_choice_again_afterwards(bars: bool, hub_bars: bool, saved: Path) -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    (enable_progress_bars if hub_bars else disable_progress_bars)()
    logging.set_verbosity_info()
    try:
        ct.load(saved)
        with pytest.raises(ModelError):
            ct.load(damaged(saved))
        found = logging.get_verbosity(), logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
        assert found == (logging.INFO, bars, hub_bars)
    finally:
        logging.set_verbosity_warning()
        logging.enable_progress_bar()


# --- compiled models, RWKV -------------------------------------------------------------------------------------------------


def test_compiled_models_load_by_name() -> None:
    ours = ct.load("compiled:mamba", dtype="bfloat16")
    assert (ours.name, ours.graph.name, ours.dtype, ours.tokenizer) == ("compiled:mamba", "mamba", torch.bfloat16, None)
    mine = object()
    assert ct.load("compiled:mamba", tokenizer=mine).tokenizer is mine
    with pytest.raises(ModelError, match=r"^expected a compiled model, got 'compiled:mambo'; did you mean 'compiled:mamba'\?$"):
        ct.load("compiled:mambo")


def test_rwkv_is_never_rescaled(tmp_path: Path) -> None:
    """As transformers reads the folder, the first forward pass divides weights of the second block on, in place."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 3}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("rwkv", **sizes, rescale_every=1)).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    ours, stock = ct.load(tmp_path).hf, AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    same = []
    for hf in (ours, stock):
        logits(hf, tokens())
        weights = dict(hf.named_parameters())
        same.append(all(torch.equal(weights[name], value) for name, value in stored.items()))
    assert same == [True, False]


# --- nothing but weights ---------------------------------------------------------------------------------------------------


def test_no_code_of_a_folder_runs_and_nothing_asks(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code for the config, the model, the tokenizer and for generating, each of which transformers would offer to run."""
    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    for name in ("configuration_mine.py", "modeling_mine.py", "tokenization_mine.py", "custom_generate/generate.py"):
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_text(code)
    own = {"AutoConfig": "configuration_mine.Mine", "AutoModelForCausalLM": "modeling_mine.Mine"}
    config(auto_map=own)(saved)
    (saved / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_mine.Mine", None]}}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    assert ct.load(saved).graph.name == "gpt2"
    with pytest.raises(ModelError, match=r"holds no model that transformers knows: "):
        ct.load(config(model_type="mine")(saved))
    assert not ran.exists()


def test_how_a_model_generates_is_read_too(saved: Path) -> None:
    (saved / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 5], "max_new_tokens": 7}))
    found = ct.load(saved).hf.generation_config
    assert (found.eos_token_id, found.max_new_tokens) == ([3, 5], 7)
    (saved / "generation_config.json").unlink()
    assert ct.load(saved).hf.generation_config.eos_token_id == 0
