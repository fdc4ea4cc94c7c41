"""The feature dashboard in a browser: it narrows, sorts, shows contexts, answers to keys, asks for nothing and runs no text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from circuitry.errors import CircuitryError
from circuitry.features.dashboard.page import LIMIT, write_dashboard
from circuitry.features.dashboard.proxy import ProxyScorer
from circuitry.features.dashboard.score import contexts_of, score_layers
from support.browsing import Open
from support.features_known import CLASS, EVIL, NUMB, PHRASE, SILENT, TOKEN, Words, activations, corpus, matches

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIDES = ([activations(0), activations(2)], [activations(1)])


def table() -> pd.DataFrame:
    """The features of the first layer with themselves, and one of the second layer with another."""
    more = {"layer_a": 1, "feature_a": NUMB, "mppc": 0.5, "layer_b": 0, "feature_b": CLASS, "null": 0.45}
    return pd.concat([matches(7), pd.DataFrame([more])], ignore_index=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contexts = contexts_of(SIDES[0], corpus(), Words(), [(0, feature) for feature in range(7)])
    scores = score_layers(ProxyScorer(), contexts)
    names = ("a <b>", "b")
    return write_dashboard(table(), *SIDES, corpus(), Words(), tmp_path_factory.mktemp("page"), names=names, scores=scores)


def data(file: Path) -> Any:
    """What the page knows."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', file.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def listed(page: Page) -> list[str]:
    return page.locator("#list button span").all_inner_texts()


def test_the_data_are_what_was_measured(page: Path) -> None:
    found = data(page)
    assert [match["mppc"] for match in found["matches"]] == sorted((m["mppc"] for m in found["matches"]), reverse=True)
    assert len(found["matches"]) == 7, "the silent feature has no match"
    first = found["features"][0][found["matches"][0]["a"]]
    dense = activations().toarray()[:, TOKEN]
    assert (first["feature"], first["fires"], sum(first["histogram"])) == (TOKEN, (dense > 0).sum(), (dense > 0).sum())
    assert len(first["contexts"]) == 10 and all(len(c["t"]) == len(c["v"]) == 17 for c in first["contexts"])
    assert found["texts"][first["contexts"][0]["t"][first["contexts"][0]["p"]]] == " w5"
    assert found["matches"][0]["scores"] == {"complexity (proxy)": 1, "monosemanticity (proxy)": 5}


def test_every_context_has_the_activations_of_both_features(page: Path) -> None:
    found, rows = data(page), corpus()
    text = [Words().decode([index]) for index in rows.ids[rows.used]]
    dense = {id(side): [acts.toarray() for acts in side] for side in SIDES}
    for match in found["matches"]:
        pair = [found["features"][side][match[key]] for side, key in ((0, "a"), (1, "b"))]
        for side in (0, 1):
            own, other = pair[side], pair[1 - side]
            contexts = [*own["contexts"], *(context for level in own["lower"] for context in level["contexts"])]
            assert len(contexts) == len(match["beside"][side]) > len(own["contexts"])
            for context, pairs in zip(contexts, match["beside"][side], strict=True):
                start = window([found["texts"][token] for token in context["t"]], context["d"], text)
                wanted = dense[id(SIDES[1 - side])][other["layer"]][start : start + 17, other["feature"]]
                shown = np.zeros(17)
                shown[pairs[::2]] = pairs[1::2]
                np.testing.assert_allclose(shown, wanted, rtol=0.005)


def window(tokens: list[str], document: int, text: list[str]) -> int:
    """The row at which a window of a document begins."""
    return next(row for row in range(document * 59, document * 59 + 43) if text[row : row + 17] == tokens)


def test_text_of_documents_is_escaped(page: Path) -> None:
    text = page.read_text()
    assert EVIL in data(page)["texts"] and EVIL not in text and "<img" not in text
    assert "a &lt;b&gt;" in text and "a <b>" not in text


def test_mutual_best_matches() -> None:
    from circuitry.features.dashboard.entries import entries

    reverse = table().assign(layer_b=lambda f: np.where(f["feature_a"] == PHRASE, 1, f["layer_b"]))
    made = entries(matches(3), matches(3), reverse, SIDES, corpus(), Words())["matches"]
    assert [match["mutual"] for match in made] == [True, True, False]


def test_a_page_of_many_matches_is_bounded(tmp_path: Path) -> None:
    features = 400
    rng = np.random.default_rng(0)
    many = np.where(rng.random((2360, features)) < 0.02, rng.random((2360, features)), 0)
    numbers = np.arange(features)
    told = pd.DataFrame({"layer_a": 0, "feature_a": numbers, "mppc": numbers / features, "layer_b": 0, "feature_b": numbers})
    file = write_dashboard(told, [many_sparse(many)], [many_sparse(many)], corpus(), Words(), tmp_path / "many.html")
    assert file.name == "many.html" and len(data(file)["matches"]) == LIMIT
    assert file.stat().st_size < 3_000_000
    assert "300 of 400 matches: the 30 with the highest MPPC, the 30 with the lowest" in file.read_text()


def many_sparse(dense: Any) -> Any:
    from scipy.sparse import csr_array

    return csr_array(dense)


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match="no feature has a match"):
        write_dashboard(matches().assign(mppc=np.nan), *SIDES, corpus(), Words(), tmp_path)
    with pytest.raises(CircuitryError, match="limit must be at least 1, got 0"):
        write_dashboard(matches(), *SIDES, corpus(), Words(), tmp_path, limit=0)
    assert not list(tmp_path.iterdir())


def test_search_narrows_by_text_and_number_and_layer_and_range(show: Open, page: Path) -> None:
    opened = show(page)
    assert opened.inner_text("#count") == "7 of 7 matches" and len(listed(opened)) == 7
    told = data(page)
    opened.fill("#text", "W8  w9")
    sought = [
        any(
            "w8 w9" in "".join(told["texts"][t] for t in c["t"])
            for side, key in ((0, "a"), (1, "b"))
            for c in told["features"][side][m[key]]["contexts"]
        )
        for m in told["matches"]
    ]
    assert opened.locator("#list button").count() == sum(sought) and opened.locator(".contexts .found").count()
    opened.fill("#text", "no such text")
    assert opened.inner_text("#count").startswith("0 of 7 matches") and opened.locator("#match h2").count() == 0
    opened.click("text=Show all")
    opened.get_by_text("7 of 7 matches").wait_for()
    opened.fill("#number", str(CLASS))
    assert len(listed(opened)) == 2, "a number of either model"
    opened.fill("#number", "")
    opened.select_option("#layer-a", "1")
    assert listed(opened) == [f"layer 1 #{NUMB} – layer 0 #{CLASS}"]
    opened.select_option("#layer-a", "")
    opened.fill("#low", "0.4")
    opened.fill("#high", "0.7")
    assert opened.locator("#list b").all_inner_texts() == ["0.61", "0.50", "0.44"]


def test_sorting(show: Open, page: Path) -> None:
    opened = show(page)
    assert opened.locator("#list b").all_inner_texts()[0] == "0.95"
    opened.select_option("#order", "MPPC, lowest first")
    assert opened.locator("#list b").all_inner_texts()[:2] == ["−0.07", "0.10"]
    opened.select_option("#order", "furthest above chance")
    assert listed(opened)[0].startswith("layer 0 #0")
    opened.select_option("#order", "complexity (proxy), lowest first")
    assert listed(opened)[-1].startswith("layer 1"), "features without a score come last"
    opened.select_option("#order", "feature number")
    assert [text.split(" – ")[0] for text in listed(opened)][:3] == ["layer 0 #0", "layer 0 #1", "layer 0 #2"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_shows_both_features_of_a_match(show: Open, page: Path, scheme: Any) -> None:
    opened = show(page, color_scheme=scheme)
    opened.click("#list button >> nth=2")
    assert opened.inner_text("#match h2").startswith("MPPC 0.61") and "0.05 by chance" in opened.inner_text("#match h2")
    assert "complexity (proxy)" in opened.inner_text("#match h2")
    assert opened.locator("#match h3").all_inner_texts() == ["a <b>", "b"]
    for side in (".one", ".two"):
        lines = opened.locator(f"{side} .contexts .text")
        assert lines.count() == 10 and "w8 w9" in lines.first.inner_text()
        peak = opened.locator(f"{side} .peak").first
        assert peak.inner_text() == "w9" and peak.get_attribute("title")
        assert opened.locator(f"{side} .histogram rect").count() == 20
        colours = [
            opened.locator(f"{side} .text span >> nth={n}").evaluate("e => getComputedStyle(e).backgroundColor")
            for n in range(17)
        ]
        assert len(set(colours)) > 1, "active tokens have a colour"
        below = opened.locator(f"{side} .contexts .beside")
        assert below.all_inner_texts() == lines.all_inner_texts(), "the same tokens with the other's activations"
        assert opened.locator(f"{side} .contexts .beside .peak").first.get_attribute("title")
        inks = [
            opened.locator(f"{side} .contexts {line} .peak >> nth=0").evaluate("e => getComputedStyle(e).backgroundColor")
            for line in (".text", ".beside")
        ]
        assert inks[0] != inks[1], "each feature has its colour"
        assert opened.locator(f"{side} h4").all_inner_texts() == [
            f"around the {n}th percentile of its activations" for n in (90, 50, 10)
        ]
        assert opened.locator(f"{side} .lower li").count() == 9
    left, right = (opened.locator(side).bounding_box() for side in (".one", ".two"))
    assert left and right and left["x"] + left["width"] < right["x"] and left["y"] == right["y"], "side by side"


def test_markup_in_a_token_is_shown_as_text(show: Open, page: Path) -> None:
    opened = show(page)
    opened.fill("#text", "onerror")
    assert opened.locator("#list button").count()
    assert EVIL in opened.inner_text("#match") and opened.locator("#match img").count() == 0
    opened.fill("#text", "")
    opened.locator("#list button", has_text=f"#{NUMB} – layer 0 #{NUMB}").click()
    assert opened.locator(".peak").first.inner_text() == EVIL


def test_keys_move_through_the_list(show: Open, page: Path) -> None:
    opened = show(page)
    opened.focus("#order")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    inside = "document.activeElement.closest('#list') !== null"
    assert opened.evaluate(inside)
    opened.keyboard.press("Tab")
    assert not opened.evaluate(inside), "one stop for the whole list"
    opened.keyboard.press("Shift+Tab")
    for key, mppc in (("ArrowDown", "0.78"), ("ArrowDown", "0.61"), ("ArrowUp", "0.78"), ("End", "−0.07"), ("Home", "0.95")):
        opened.keyboard.press(key)
        assert opened.inner_text("#match h2").startswith(f"MPPC {mppc}")
        assert opened.locator("#list [aria-current]").inner_text().startswith(mppc)
    opened.keyboard.press("ArrowUp")
    assert opened.inner_text("#match h2").startswith("MPPC 0.95")


def test_hubs_are_counted_and_can_be_left_out(show: Open, tmp_path: Path) -> None:
    forward = matches(4).assign(feature_b=[PHRASE, PHRASE, PHRASE, CLASS], layer_b=0)
    back = forward.iloc[[1, 3]].rename(columns={"feature_a": "feature_b", "feature_b": "feature_a"})
    both = SimpleNamespace(forward=forward, reverse=back)
    opened = show(write_dashboard(both, *SIDES, corpus(), Words(), tmp_path))
    assert len(listed(opened)) == 4
    opened.click(f"#list button:has-text('– layer 0 #{PHRASE}') >> nth=0")
    assert "best match of 3 features" in opened.inner_text("#match h2")
    opened.check("#mutual")
    assert [text.split(" – ")[0] for text in listed(opened)] == [f"layer 0 #{n}" for n in forward["feature_a"].iloc[[1, 3]]]
    opened.click("text=Show all")
    opened.get_by_text("4 of 4 matches").wait_for()


def test_buttons_lead_to_the_next_match(show: Open, page: Path) -> None:
    opened = show(page, width=400, has_touch=True)
    opened.tap("#list button >> nth=0")
    assert opened.is_disabled("#previous")
    for button, mppc in (("#next", "0.78"), ("#next", "0.61"), ("#previous", "0.78")):
        opened.tap(button)
        assert opened.inner_text("#match h2").startswith(f"MPPC {mppc}")
        assert opened.locator("#list [aria-current]").inner_text().startswith(mppc)
    box = opened.locator("#match h2").bounding_box()
    assert box and 0 <= box["y"] < 450
    opened.fill("#text", "no such text")
    assert not opened.is_visible("#next")


def test_a_narrow_screen_is_enough(show: Open, page: Path) -> None:
    opened = show(page, width=400, has_touch=True)
    opened.tap("#list button >> nth=1")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    box = opened.locator("#match h2").bounding_box()
    assert box and 0 <= box["y"] < 450, "the match comes into view"
    sizes = opened.locator("p, li, dd, dt, span, small, button").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
    left, right = (opened.locator(side).bounding_box() for side in (".one", ".two"))
    assert left and right and left["y"] + left["height"] <= right["y"], "one above the other"


def test_without_scripts_it_says_so(show: Open, page: Path) -> None:
    assert "scripts are turned off" in show(page, java_script_enabled=False).inner_text("main")
    assert "scripts are turned off" not in show(page).inner_text("main")


def test_what_is_silent_is_said(page: Path) -> None:
    assert "7 matches. 1 feature fired too rarely" in page.read_text()
    assert SILENT not in {feature["feature"] for feature in data(page)["features"][0]}


def test_what_a_scorer_wrote_is_shown_as_text(show: Open, tmp_path: Path) -> None:
    class Writer:
        name, proxy, answer_tokens = "a writer", False, 10

        def score(self, question: Any) -> str:
            return f"It fires on {EVIL}. Score: 3" if question.rubric.name == "complexity" else "Score: 4"

    contexts = contexts_of(SIDES[0], corpus(), Words(), [(0, TOKEN), (0, PHRASE)])
    scores = score_layers(Writer(), contexts)
    assert scores["complexity"].tolist() == [3, 3] and scores["monosemanticity"].tolist() == [4, 4]
    file = write_dashboard(matches(3), *SIDES, corpus(), Words(), tmp_path, scores=scores)
    assert EVIL not in file.read_text()
    opened = show(file)
    written = opened.inner_text("#match .explanation")
    assert written == f"What the scorer wrote of model A’s feature:\ncomplexity: It fires on {EVIL}. Score: 3"
    opened.click("#list button >> nth=1")
    assert opened.locator("#match .explanation").count() == 0, "this feature was not scored"
