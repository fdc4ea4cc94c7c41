"""What a claims file may say, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

import circuitry as ct
from circuitry.claims import Bound, ModelName, Seeds, TaskName
from circuitry.claims.reading import parse_claims, read

TOP = "model: bundled:mamba\ntask: {name: induction, distance: 8, examples: 4, seed: 2}\nclaims:\n"
EFFECT = "- text: a\n  effect: ssm_state[{layer}] @ B+3 -> logits\n  at_least: .5\n"


def test_a_claim_has_what_its_file_says() -> None:
    text = TOP + (
        "- text: One\n   line\n  effect: ssm_state[{layer}]   @ B+3 -> logits freezing h\n  cell: {layer: [2, 3]}\n  at_least: 1e-1\n"
        "  others: {at_most: 0.3}\n  confidence: 0.99\n  seeds: {count: 10, holding: 9}\n  metric: kl\n  axes: {layer: [1, 2, 3]}\n"
    )
    [claim] = parse_claims(text).claims
    assert (claim.text, claim.bound, claim.others, claim.line) == ("One line", Bound(0.1), Bound(None, 0.3), 4)
    assert claim.quantity.what == "ssm_state[{layer}] @ B+3 -> logits freezing h"
    assert claim.quantity.model == ModelName("bundled:mamba")
    assert claim.quantity.task == TaskName("induction", {"distance": 8}, 4, 2)
    assert claim.quantity.cell == {"layer": (2, 3)} and claim.quantity.options == {"metric": "kl", "axes": {"layer": [1, 2, 3]}}
    assert (claim.confidence, claim.seeds) == (0.99, Seeds(10, 9))


def test_a_claim_replaces_what_stands_at_the_top_and_minus_what_the_claim_says() -> None:
    text = (
        TOP
        + EFFECT
        + "  model: {name: x, revision: r, weights: w, dtype: float64}\n  task: ioi\n  minus: {task: capital, cell: {layer: 1}}\n"
    )
    [claim] = parse_claims(text).claims
    assert claim.quantity.model == ModelName("x", "r", "w", "float64") and claim.quantity.task == TaskName("ioi")
    assert claim.minus is not None and claim.minus.task == TaskName("capital") and claim.minus.model == claim.quantity.model
    assert claim.minus.what == claim.quantity.what and claim.minus.cell == {"layer": (1,)} and claim.quantity.cell == {}


def test_files_are_looked_for_beside_the_claims(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text("model: ./m.gguf\ntask: mine.csv\nclaims:\n- {text: a, faithfulness: circuit.json, at_least: 0.5}\n")
    [claim] = read(file).claims
    assert claim.quantity.model.name == str(tmp_path / "m.gguf") and claim.quantity.task.name == str(tmp_path / "mine.csv")
    assert claim.quantity.what == str(tmp_path / "circuit.json")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "is empty"),
        ("claims: [", 1, "not YAML"),
        ("- a", 1, "expected a claims file as keys with values"),
        ("model: m", 1, "needs the key 'claims'"),
        ("claims: []", 1, "expected a list of claims"),
        ("clams: []", 1, "a claims file has no key 'clams'; did you mean 'claims'?"),
        (TOP + "- {accuracy: top-1, at_least: 1}", 4, "needs the key 'text'"),
        (TOP + EFFECT + "  at_leest: 1", 7, "no key 'at_leest'; did you mean 'at_least'?"),
        (TOP + EFFECT + "  at_least: 1", 7, "a claim has 'at_least' twice"),
        (TOP + EFFECT.replace(".5", "much"), 6, "expected a number, got 'much'"),
        (TOP + EFFECT.replace(".5", ".nan"), 6, "expected a number"),
        (TOP + EFFECT.replace(".5", "true"), 6, "expected a number, got True"),
        (TOP + "- text: a\n  effect: h[1] -> logits", 4, "a bound is missing"),
        (TOP + EFFECT + "  at_most: .1", 4, "no number is at least 0.5 and at most 0.1"),
        (TOP + "- text: a\n  at_least: 1", 4, "a claim is about one of effect, change, accuracy, faithfulness; this one has none"),
        (TOP + EFFECT + "  accuracy: top-1", 4, "this one has effect and accuracy"),
        (TOP + EFFECT.replace("->", ">"), 5, "^"),
        (TOP + EFFECT + "  cell: {layer: 1.5}", 7, "expected numbers or names as values of 'layer', got 1.5"),
        (TOP + EFFECT + "  others: {at_most: 1}", 4, "need a cell"),
        (TOP + EFFECT + "  minus: {}", 7, "at least one key that differs"),
        (TOP + EFFECT + "  minus: {accuracy: top-1}", 7, "the claim is about effect"),
        (TOP + EFFECT + "  seeds: {count: 10}", 7, "count and holding"),
        (TOP + EFFECT + "  seeds: {count: 3, holding: 4}", 7, "at most 3 can hold"),
        (TOP + EFFECT + "  confidence: 95", 7, "below 1, got 95"),
        (TOP + EFFECT + "  direction: sideways", 7, "expected 'noising' or 'denoising', got 'sideways'"),
        (TOP + EFFECT + "  task: {examples: 4}", 7, "a task needs the key 'name'"),
        (TOP + EFFECT + "  task: {name: induction, examples: 0}", 7, "at least 1, got 0"),
        (TOP + EFFECT + "  model: {name: m, weight: w}", 7, "a model has no key 'weight'; did you mean 'weights'?"),
        (TOP + "- text: a\n  accuracy: top1\n  at_least: 1", 5, "expected 'top-1' or 'above foil', got 'top1'"),
        (TOP + "- text: a\n  accuracy: top-1\n  at_least: 1\n  cell: {layer: 1}", 4, "accuracy is one number; leave cell out"),
        (EFFECT.join(["claims:\n", ""]), 2, "the model is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ct.CircuitryError) as error:
        parse_claims(text, "claims.yaml")
    assert str(error.value).startswith(f"claims.yaml, line {line}: " if line else "claims.yaml") and message in str(error.value)


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ct.CircuitryError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes("claims: [{text: é}]".encode("latin-1"))
    with pytest.raises(ct.CircuitryError, match="it is not UTF-8 text"):
        read(tmp_path / "latin.yaml")
