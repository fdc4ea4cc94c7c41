"""GGUF files are converted once: what the cache gives is what the file gives, bit for bit, whatever happened to the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import circuitry as ct
from circuitry import CircuitryError, ModelError
from circuitry.models import convert
from circuitry.models.gguf import cache as gguf_cache
from circuitry.models.gguf import load as gguf_load
from support.gguf_files import KINDS, stock, write
from support.refusals import matches

pytest.importorskip("gguf")
pytest.importorskip("accelerate")
IDS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(0))
WORDS = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "d", "▁a", "ab", "▁ab", "cd", *(f"w{k}" for k in range(49))]


def spelled(**changes: Any) -> dict[str, Any]:
    """Metadata of a vocabulary of 61 pieces, as sentencepiece has them."""
    scores = [0.0, 0.0, 0.0, *(-float(k) for k in range(1, len(WORDS) - 2))]
    said = {"tokens": WORDS, "scores": scores, "token_type": [2, 3, 3, *[1] * (len(WORDS) - 3)], "model": "llama"}
    return {f"tokenizer.ggml.{key}": value for key, value in (said | changes).items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CIRCUITRY_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "gguf"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read as GGUF."""
    names, stock_read = list[str](), gguf_load._read

    def counted(file: Path, *rest: Any) -> Any:
        names.append(file.name)
        return stock_read(file, *rest)

    monkeypatch.setattr(gguf_load, "_read", counted)
    return names


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.hf(IDS, use_cache=False).logits
    return found


def direct(file: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    with monkeypatch.context() as off:
        off.setenv("CIRCUITRY_CACHE", "off")
        return ct.load(file, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_cached_converted_and_direct_are_one_model(
    kind: str, tmp_path: Path, cache: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bit of every logit; in another dtype too, which is rounded from the same numbers."""
    file = write(tmp_path / "t.gguf", stock(kind), quantisation="Q8_0")
    wanted = direct(file, monkeypatch)
    convert(file, tmp_path / "folder")
    assert len(conversions) == 2 and not cache.exists()
    models = [ct.load(file), ct.load(file), ct.load(tmp_path / "folder")]
    assert len(conversions) == 3, "the second load reads no GGUF"
    for model in models:
        assert torch.equal(logits(model), logits(wanted)) and model.fingerprint == wanted.fingerprint
    assert [model.name for model in models] == ["t.gguf", "t.gguf", str(tmp_path / "folder")]
    small = ct.load(file, dtype="bfloat16")
    assert torch.equal(logits(small), logits(direct(file, monkeypatch, dtype="bfloat16")))


def test_the_tokenizer_is_the_files(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"), other=spelled())
    wanted = direct(file, monkeypatch).tokenizer
    convert(file, tmp_path / "folder")
    for model in (ct.load(file), ct.load(file), ct.load(tmp_path / "folder")):
        for text in ("ab cd", " a cd", "abcd ba"):
            assert model.tokenizer(text)["input_ids"] == wanted(text)["input_ids"]
            assert len(set(wanted(text)["input_ids"]) - {0}) > 1, "the tokenizer knows some pieces"
        assert type(model.tokenizer) is type(wanted) and model.tokenizer.get_vocab() == wanted.get_vocab()
        assert model.tokenizer.special_tokens_map == wanted.special_tokens_map


def test_a_tokenizer_that_cannot_be_read_is_refused_at_every_load(tmp_path: Path, cache: Path) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"), other=spelled(model="strange"))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"^transformers cannot read the tokenizer in t.gguf \("):
            ct.load(file)
        assert ct.load(file, tokenizer=ct.load("bundled:mamba").tokenizer).name == "t.gguf"


def test_the_size_is_said_once(tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"))
    capfd.readouterr()
    ct.load(file)
    (folder,) = cache.iterdir()
    size = sum(part.stat().st_size for part in folder.iterdir()) / 2**20
    matches(
        capfd.readouterr().err,
        f"note: t.gguf was converted once, to {size:,.0f} MiB in {folder} (CIRCUITRY_CACHE=FOLDER names another folder, *",
    )
    ct.load(file)
    assert capfd.readouterr() == ("", "")


def one_bit(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(torch.int32)[0] ^= 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "one bit of a weight": one_bit,
    "a file lost": lambda folder: (folder / "config.json").unlink(),
    "a file more": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "no digests": lambda folder: (folder / "circuitry.json").unlink(),
    "digests cut": lambda folder: (folder / "circuitry.json").write_text('{"files": '),
    "digests of nothing": lambda folder: (folder / "circuitry.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(damage: str, tmp_path: Path, cache: Path, conversions: list[str]) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"))
    wanted = ct.load(file)
    (folder,) = cache.iterdir()
    DAMAGE[damage](folder)
    again = ct.load(file)
    assert torch.equal(logits(again), logits(wanted)) and again.fingerprint == wanted.fingerprint
    ct.load(file)
    assert conversions == ["t.gguf"] * 2 and list(cache.iterdir()) == [folder]


def test_another_file_or_another_converter_is_another_entry(
    tmp_path: Path, cache: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the file does not matter, its bytes do."""
    file = write(tmp_path / "t.gguf", stock("llama"))
    ct.load(file)
    ct.load(file.rename(tmp_path / "moved.gguf"))
    assert conversions == ["t.gguf"]
    other = ct.load(write(tmp_path / "t.gguf", stock("llama", seed=1)))
    assert torch.equal(logits(other), logits(direct(tmp_path / "t.gguf", monkeypatch)))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(gguf_cache, "version", lambda name: "0")
    ct.load(file := tmp_path / "t.gguf")
    assert len(list(cache.iterdir())) == 3 and conversions.count(file.name) == 4


def test_any_part_of_a_split_file_finds_the_same_entry(tmp_path: Path, cache: Path, conversions: list[str]) -> None:
    first = write(tmp_path / "m.gguf", stock("llama"), tensors_a_part=7)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    prints = {ct.load(part).fingerprint for part in (first, parts[2])}
    assert len(prints) == len(conversions) == len(list(cache.iterdir())) == 1
    parts[1].unlink()
    with pytest.raises(ModelError, match=r"^m-00001-of-00005.gguf is one of 5 parts, and m-00002-of-00005.gguf is not beside it"):
        ct.load(first)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("CIRCUITRY_CACHE", str(tmp_path / "cache"))
    file = write(tmp_path / "t.gguf", stock("llama"))
    wanted = direct(file, monkeypatch)
    capfd.readouterr()
    assert ct.load(file).fingerprint == wanted.fingerprint
    matches(capfd.readouterr().err, "note: t.gguf is converted at every call, since * cannot be written: *")
    assert os.listdir(tmp_path) == ["cache", "t.gguf"] or set(os.listdir(tmp_path)) == {"cache", "t.gguf"}


def test_a_refused_file_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"), lambda held, _: held.pop("blk.1.attn_q.weight"))
    with pytest.raises(ModelError, match=r"^t.gguf lacks 1 weight"):
        ct.load(file)
    with pytest.raises(ModelError, match=r"^t.gguf lacks 1 weight"):
        convert(file, tmp_path / "folder")
    assert not cache.exists() and not (tmp_path / "folder").exists()


def test_convert_says_what_it_wrote_and_overwrites_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"), other=spelled())
    done = convert(file, tmp_path / "folder")
    assert (done.kind, done.sources, done.model_type, done.dtype) == ("GGUF", (Path("t.gguf"),), "llama", torch.float32)
    assert done.tokenizer and "tokenizer.json" in done.tokenizer
    with pytest.raises(CircuitryError, match="already exists and is not overwritten"):
        convert(file, tmp_path / "folder")
    with pytest.raises(ModelError, match=r"^no file .*none.gguf$"):
        convert(tmp_path / "none.gguf", tmp_path / "other")
