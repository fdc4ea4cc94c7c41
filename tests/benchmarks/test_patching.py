"""The benchmark of sweeps: its hook loops agree with the engine, and with the stock model they are hooks on."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = ["a", "b", "c", "d state", "d scan_input", "e heads 32", "e state 32", "e heads 48", "e state 48", "f"]


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package beside the benchmark."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("patching_cost")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def part(name: str) -> Any:
    return importlib.import_module(f"patching_cost.{name}")


def quick(number: int, prompts: int = 3) -> Any:
    return list(part("cases").every_case(quick=True, length=20, prompts=prompts))[number]


def test_every_case_is_here(cost: Any) -> None:
    assert len(list(part("cases").every_case(True, 20, 3))) == len(NAMES) == len(list(part("cases").every_case(False, 20, 3)))


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_all_methods_find_the_same_effects(cost: Any, number: int) -> None:
    found = part("measuring").compare(quick(number), skip=frozenset({"lens"}))
    assert list(found.measured) == ["suffix", "rows", "hook loop"]
    assert found.relative <= part("measuring").EQUAL
    assert found.largest > 100 * found.gap  # else the effects themselves would be rounding
    for one in found.measured.values():
        assert one.effects.keys() == {tuple(cell.values()) for cell in found.case.cells}
        assert one.seconds > 0


def test_what_is_found_wrong_is_said(cost: Any, capsys: pytest.CaptureFixture[str]) -> None:
    measuring, benchmark = part("measuring"), load()
    case = quick(0)
    found = measuring.compare(case, skip=frozenset({"lens"}))
    assert benchmark.show(found)
    assert "effects equal" in capsys.readouterr().out
    found.measured["hook loop"].effects[0, 0][0] += 0.01
    assert not benchmark.show(found)
    assert "effects NOT EQUAL" in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 3], ids=["gpt2", "mamba"])
def test_an_unpatched_loop_is_the_stock_model(cost: Any, number: int) -> None:
    case, ids = quick(number), part("executors").ids_of(quick(number))
    loop = (part("gpt2_loop").GPT2Loop if case.shape.heads else part("mamba_loop").MambaLoop)(case, ids)
    loop.record()
    with torch.no_grad():
        stock = case.shape.model(case.length)(ids.clean).logits[:, -1]
    torch.testing.assert_close(loop.base, stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 4], ids=["b", "c", "d"])
def test_a_sample_has_the_effects_of_the_whole(cost: Any, number: int) -> None:
    measuring, case = part("measuring"), quick(number)
    skip = frozenset({"lens", "suffix"})
    whole, some = measuring.compare(case, skip), measuring.compare(case, skip, sample=3)
    for name, one in some.measured.items():
        assert one.timed == len(one.effects) == 3
        for cell, effects in one.effects.items():
            assert effects == pytest.approx(whole.measured[name].effects[cell], abs=1e-5)


def test_the_floor_of_the_cases_by_hand(cost: Any) -> None:
    """GPT-2 small: per layer 12 d^2 a token and attention; a row of a head is one token through the MLPs that follow."""
    case = next(part("cases").every_case(quick=False, length=20, prompts=16))
    d, layers = 768, 12
    one_pass = layers * (20 * 12 * d**2 + 2 * d * 20 * 21 // 2)
    rows = sum(d * 64 + 8 * d**2 * (layers - cell["layer"]) + d for cell in case.cells)
    assert part("floor").floor(case) == pytest.approx(2 * (one_pass + d) + rows)
    assert part("floor").loop(case) == pytest.approx(146 * (one_pass + d * 50257))
    assert all(part("floor").ratio(one) > 2 for one in part("cases").every_case(False, 20, 16))


def test_the_command_prints_cases_and_growth(
    cost: Any, one_thread: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figure = tmp_path / "growth.svg"
    given = ["--quick", "--cases", "a", "f", "--prompts", "2", "--skip", "lens", "--figure", str(figure)]
    assert load().main(given) == 0
    shown = capsys.readouterr().out
    assert "(a) head[{layer},{head}] @ END -> logits freezing head" in shown and "(f)" in shown and "(b)" not in shown
    assert shown.count("effects equal") == 3 and "| floor, predicted |" in shown
    assert "| cells |" in shown and "| tokens |" in shown and "| layers |" in shown
    assert "hook loop" in figure.read_text()


def test_an_option_out_of_range_is_refused(cost: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load().main(["--quick", "--sample", "1"])
    assert "--sample must be at least 2, got 1" in capsys.readouterr().err


def load() -> Any:
    """The benchmark as a module; under its own name it would hide, or be hidden by, another one called patching."""
    spec = importlib.util.spec_from_file_location("benchmark_patching", FOLDER / "patching.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
