"""Captions say how the numbers were made: the direction, the intervention, the model and the task; in LaTeX with a label."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuitry import PatchingTable
from circuitry.results.latex import escaped, label
from support.some_tables import layers, table

WAYS: dict[str, dict[str, Any]] = {
    "direction noising, intervention resample": {"base": "clean", "intervention": "resample"},
    "direction denoising, intervention resample": {"base": "corrupted", "intervention": "resample"},
    "direction noising, intervention zero": {"base": "clean", "intervention": "zero"},
    "direction noising, intervention given(2.0)": {"base": "clean", "intervention": "given(2.0)"},
}


@pytest.mark.parametrize("words", WAYS)
def test_every_text_of_a_table_says_how_it_was_patched(words: str) -> None:
    made = table(**WAYS[words])
    for text in (repr(made), made.to_markdown(), made.to_latex()):
        assert f" over 2 examples; {words}; tiny" in text


def test_a_comparison_says_once_what_is_the_same_and_each_where_they_differ() -> None:
    noised, denoised, zeroed = (table(**way) for way in list(WAYS.values())[:3])
    assert "; direction noising, intervention resample; " in noised.compare(noised).caption()
    assert "clean: direction noising, intervention resample; corrupted: direction denoising" in noised.compare(denoised).caption()
    shown = noised.compare(zeroed).to_latex()
    assert "resample: direction noising, intervention resample; zero: direction noising, intervention zero; tiny" in shown
    assert "\\label{tab:resample-and-zero}" in shown


def test_a_stack_of_both_directions_names_both_and_its_parts_their_own() -> None:
    noised, denoised, _, _ = (table(**way) for way in WAYS.values())
    both = PatchingTable.stack({"there": noised, "back": denoised}, "way")
    assert "; direction noising or denoising, intervention resample; " in both.caption()
    for value, one in (("there", noised), ("back", denoised)):
        assert (
            both.select("way", value).caption() == one.caption()
            and both.select("way", value).provenance["base"] == one.provenance["base"]
        )


def test_labels_hold_letters_digits_and_hyphens_only() -> None:
    made = layers(1, 2).titled("States: h[{layer}] & 50% of_all ~ #1 ü")
    found = re.search(r"\\label{(.*)}", made.to_latex())
    assert found and re.fullmatch(r"tab:[a-z0-9-]+", found[1]) and found[1] == label("States: h[{layer}] & 50% of_all ~ #1 ü")
    assert made.to_latex().index("\\caption") < made.to_latex().index("\\label") < made.to_latex().index("\\begin{tabular}")


SPECIAL = r"a_b %& $x$ #1 {y} ^2 ~z <s> |e| back\slash ± ≥ → … -3.5 2e-06 − ×"


def test_what_latex_would_read_as_a_command_is_escaped() -> None:
    text = escaped(SPECIAL)
    bare = re.sub(r"\\[%&#${}_^~]|\\[a-z]+(\{\})?|\$[^$]*\$|\{\}", "", text)
    assert not set(bare) & set("%&#$_^~<>|\\{}±≥→…−×"), bare
    assert "$-$3.5 $2\\times10^{-6}$" in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
def test_a_table_compiles(tmp_path: Path) -> None:
    body = "\n".join([table(model=SPECIAL).titled(SPECIAL).to_latex(), table(effect=1e-6 * np.ones((6, 2))).to_latex()])
    page = (
        rf"\documentclass{{article}}\usepackage[utf8]{{inputenc}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(page)
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


# --- small numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "note"), [(3.2e-6, "1e-6"), (4.5e-2, "1e-3"), (0.094, "1e-3"), (2e-13, "1e-15")])
def test_small_effects_are_scaled_and_the_header_says_so(size: float, note: str) -> None:
    made = table([{"layer": k} for k in range(3)], np.outer([1.0, -0.5, 0.25], [size, size, size * 1.01]))
    for text in (repr(made), made.to_markdown()):
        assert f"mean change of the logit, in {note}" in text
    scale = 10.0 ** -int(note[2:])
    rows = [line for line in made.to_markdown().splitlines() if re.match(r"\| [012] ", line)]
    for line, mean in zip(rows, made.mean(), strict=True):
        assert float(line.split("|")[2].split("±")[0]) == pytest.approx(mean * scale, abs=0.006)
        assert float(line.split("|")[3].split(" to ")[0]) == pytest.approx(
            made.statistics()["low"].iloc[rows.index(line)] * scale, abs=0.006
        )
    assert f"in $10^{{{note[2:]}}}$" in made.to_latex()


def test_a_grid_of_small_effects_says_its_scale_in_the_caption() -> None:
    made = table(effect=np.full((6, 2), 3e-6))
    for text in (repr(made), made.to_markdown()):
        assert "0.00" not in text.replace("± 0.00", "") and "numbers in 1e-6; mean change of the logit" in text
    assert "3.00" in repr(made) and "numbers in $10^{-6}$; mean" in made.to_latex()
    both = made.compare(made)
    assert "in 1e-9; normalized effect" in both.to_markdown() or "in 1e-6; normalized effect" in both.to_markdown()


def test_a_significant_effect_beside_large_ones_never_reads_as_zero() -> None:
    effect = np.vstack([np.linspace(4.9, 5.1, 96), np.linspace(0.9e-3, 1.1e-3, 96), np.linspace(-1e-3, 1e-3, 96)])
    lines = table([{"layer": k} for k in range(3)], effect).to_markdown().splitlines()[2:5]
    assert "5.00 ± 0.01*" in lines[0] and "1e-03 ± 6e-06*" in lines[1] and "1e-03 to 1e-03" in lines[1]
    assert "0.00 ± 0.00" in lines[2], "what may be rounding stays zero"


def test_points_and_stars_stand_below_each_other() -> None:
    effect = np.vstack([np.linspace(4.9, 5.1, 96), np.linspace(-1, 1, 96)])
    made = table([{"layer": k} for k in range(2)], effect)
    for text in (repr(made), made.to_markdown()):
        rows = [line for line in text.splitlines() if re.match(r"(\| )?[01] ", line)]
        assert len({line.index("±") for line in rows}) == 1 and [line.count("*") for line in rows] == [1, 0]
    assert "\\rlap{*} &" in made.to_latex()
