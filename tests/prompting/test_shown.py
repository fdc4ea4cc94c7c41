"""``task.show``: the tokens, positions, differences and answers that are shown are those of the prompts and the model."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

import circuitry as ct
from circuitry.content import BUNDLED
from circuitry.prompting import Prompts, TaskDefinition, Vocabulary
from circuitry.prompting.shown import LONG, Gap, ShownPrompts, Token, show
from circuitry.prompting.task import task_of
from circuitry.prompting.visible import width


@pytest.fixture(scope="module", params=["gpt_neox", "mamba"])
def model(request: pytest.FixtureRequest) -> Any:
    return ct.load(f"bundled:{request.param}")


def shown_tokens(shown: ShownPrompts, example: int = 0) -> dict[int, Token]:
    return {token.number: token for token in shown.examples[example].tokens if isinstance(token, Token)}


def test_the_tokens_are_those_of_the_prompts(model: Any) -> None:
    task = ct.task("ioi", examples=3)
    prompts, shown = task.prompts(model.vocabulary), task.show(model, 2)
    assert len(shown.examples) == 2
    for number in range(2):
        tokens = shown_tokens(shown, number)
        assert len(tokens) == prompts.stops[number] == shown.examples[number].length
        for place, token in tokens.items():
            written = [model.tokenizer.decode([ids[number, place]]) for ids in (prompts.clean, prompts.corrupted)]
            assert token.text.replace("␣", " ") == written[0]
            assert (token.corrupted or token.text).replace("␣", " ") == written[1]
            assert (token.corrupted is not None) == (prompts.clean[number, place] != prompts.corrupted[number, place])
            assert set(token.positions) == {name for name, at in prompts.where.items() if at[number] == place}


def test_the_answers_are_those_of_the_stock_model(model: Any) -> None:
    """Compared with transformers' own model, which circuitry has not instrumented."""
    task = ct.task("induction", distance=8, examples=4)
    prompts, shown = task.prompts(model.vocabulary), task.show(model, 4)
    stock = transformers.AutoModelForCausalLM.from_pretrained(BUNDLED / model.name.partition(":")[2])
    for number, example in enumerate(shown.examples):
        for ids, answer in ((prompts.clean, example.clean), (prompts.corrupted, example.corrupted)):
            end = prompts.where["END"][number]
            with torch.no_grad():
                shares = stock(torch.from_numpy(ids[number : number + 1, : end + 1])).logits[0, -1].double().softmax(-1)
            assert answer is not None
            assert answer.text.replace("␣", " ") == model.tokenizer.decode([int(shares.argmax())])
            assert answer.probability == pytest.approx(float(shares.max()), rel=1e-4)
            assert answer.of_answer == pytest.approx(float(shares[prompts.answer[number]]), rel=1e-3, abs=1e-9)
            assert answer.of_foil == pytest.approx(float(shares[prompts.foil[number]]), rel=1e-3, abs=1e-9)
            assert answer.right == (int(shares.argmax()) == prompts.answer[number])


def test_text_has_every_token_under_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    task = ct.task("induction", distance=8, examples=1)
    prompts, lines = task.prompts(Vocabulary.of(None, 1000)), str(task.show()).splitlines()
    assert max(map(len, lines[1:])) <= 60
    columns: dict[str, tuple[str, str]] = {}
    for position, clean, corrupted in zip(*(of(lines, label) for label in ("position", "clean", "corrupted")), strict=True):
        for found in re.finditer(r"\w+", position.replace("position", " " * 8)):
            columns[found[0]] = (_cell_at(clean, found.start()), _cell_at(corrupted, found.start()))
    assert columns.keys() == prompts.where.keys()
    for name, (clean, corrupted) in columns.items():
        at = prompts.where[name][0]
        assert clean == str(prompts.clean[0, at])
        assert corrupted == (str(prompts.corrupted[0, at]) if name == "B" else ".")


def of(lines: list[str], label: str) -> list[str]:
    return [line for line in lines if line.startswith(f"  {label} ")]


def _cell_at(row: str, column: int) -> str:
    start, stop = row.rindex("|", 0, column), row.index("|", column)
    return row[start + 1 : stop].strip()


def test_a_long_prompt_keeps_what_matters() -> None:
    task = ct.task("induction", distance=400, examples=1)
    prompts, shown = task.prompts(Vocabulary.of(None, 1000)), task.show()
    tokens, gaps = shown_tokens(shown), [part for part in shown.examples[0].tokens if isinstance(part, Gap)]
    assert len(tokens) + sum(gap.count for gap in gaps) == shown.examples[0].length > LONG > len(tokens)
    assert {int(at[0]) for at in prompts.where.values()} <= tokens.keys()
    assert all(f"... {gap.count} tokens ..." in str(shown) for gap in gaps)


def test_a_short_prompt_is_whole() -> None:
    shown = ct.task("induction", distance=LONG - 9, examples=1).show()
    assert not any(isinstance(part, Gap) for part in shown.examples[0].tokens)


def test_padding_is_not_shown(model: Any, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("clean,corrupted,answer,foil\nhe saw the Mary,he saw the John, and, to\nhe saw Mary,he saw John, and, to\n")
    task = ct.task(str(table))
    prompts, shown = task.prompts(model.vocabulary), task.show(model)
    assert prompts.stops[0] > prompts.stops[1]
    for number, example in enumerate(shown.examples):
        last = max(shown_tokens(shown, number).values(), key=lambda token: token.number)
        assert example.length == prompts.stops[number] == last.number + 1
        assert (last.text, last.corrupted, last.positions) == ("␣Mary", "␣John", ("CHANGED", "END"))


def test_a_table_of_prompts_needs_words(tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("clean,corrupted,answer,foil\nin France,in Japan, Paris, Tokyo\n")
    with pytest.raises(ct.TaskError, match="loaded without a tokenizer"):
        ct.task(str(table)).show()


def made(clean: list[int], corrupted: list[int], answer: int = 1, foil: int = 2) -> Any:
    def make(vocabulary: Any, rng: Any, *, examples: int) -> Prompts:
        answers = np.array([answer]), np.array([foil])
        return Prompts(np.array([clean]), np.array([corrupted]), *answers, {"END": np.array([len(clean) - 1])}, None)

    return task_of(TaskDefinition("made", "made", make, ("END",), ("END",), examples=1), {}, None, 0)


def byte_level() -> Any:
    """A byte-level tokenizer in which each byte is a token, with GPT-2's alphabet."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(tokenizers.models.BPE({sign: n for n, sign in enumerate(alphabet)}, []))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner)


def test_spaces_line_ends_and_parts_of_characters_are_visible() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("a \n\té")
    shown = made(ids, [*ids[:-1], ids[0]], *ids[:2]).show(tokenizer, 1)
    texts = [token.text for token in shown_tokens(shown).values()]
    assert texts == ["a", "␣", "↵", "⇥", "⟨Ã⟩", "⟨©⟩"]
    assert shown_tokens(shown)[5].corrupted == "a"


def test_a_space_that_decode_drops_is_shown() -> None:
    """SentencePiece's tokenizers write a space as a mark, and ``decode`` of a single token drops it."""
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"▁Mary": 0, "Mary": 1, "<unk>": 2}, unk_token="<unk>"))
    inner.decoder = tokenizers.decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert tokenizer.decode([0]) == "Mary"
    shown = made([0, 1], [1, 1], 0, 1).show(tokenizer)
    assert [token.text for token in shown_tokens(shown).values()] == ["␣Mary", "Mary"]


class Cells(HTMLParser):
    """The text of every code element, and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.code, self.inside = list[str](), list[str](), False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.inside = tag == "code"
        self.code += [""] * self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.code[-1] += data


def test_html_shows_the_same_and_escapes_it() -> None:
    words = {"<script>alert(1)</script>": 0, '"&amp;': 1, "<b>": 2}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<b>"))
    )
    page = Cells()
    page.feed(made([0, 1, 2], [0, 2, 2], 0, 1).show(tokenizer)._repr_html_())
    assert page.code == ["<script>alert(1)</script>", '"&amp;', "<b>", "<b>", "<script>alert(1)</script>", '"&amp;']
    assert not {"script", "b"} & (set(page.tags) - {"b"})
    assert page.tags.count("b") == 1, "the heading of the example, and no token"


def test_html_has_the_answers(model: Any) -> None:
    shown = ct.task("induction", distance=8, examples=1).show(model)
    text = re.sub(r"\s+", " ", re.sub("<style>.*?</style>|<[^>]+>", " ", shown._repr_html_(), flags=re.S))
    answer = shown.examples[0].clean
    assert answer is not None
    found = re.search(r"on clean (\S+) (\S+)%", text)
    assert found is not None and found[1] == answer.text
    assert float(found[2]) == pytest.approx(100 * answer.probability, abs=0.5)
    assert ("✓ right" in text) == answer.right


def test_a_wrong_answer_says_so() -> None:
    model = ct.load("bundled:gpt_neox")
    shown = made([5, 6, 7], [5, 8, 7], 1000, 1001).show(model)
    assert shown.examples[0].clean is not None and not shown.examples[0].clean.right
    assert "wrong" in str(shown) and "✗ wrong" in shown._repr_html_()


def test_prompts_that_the_linter_refuses_can_be_looked_at() -> None:
    task = made([5, 6], [5, 6])
    with pytest.raises(ct.TaskError, match="are the same"):
        task.prompts(Vocabulary.of(None, 9))
    assert all(token.corrupted is None for token in shown_tokens(task.show()).values())


@pytest.mark.parametrize(
    ("given", "says"),
    [("bundled:mamba", r"load it first: ct.load\('bundled:mamba'\)"), (3, "expected a model, a vocabulary, a tokenizer or None")],
)
def test_what_is_no_model_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ct.CircuitryError, match=says):
        ct.task("induction").show(given)


def test_text_lines_up_with_wide_characters() -> None:
    words = {"東京": 0, "e\u0301": 1, "abc": 2}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="abc"))
    )
    lines = str(made([0, 1, 2], [1, 0, 2], 0, 1).show(tokenizer)).splitlines()
    clean, corrupted = of(lines, "clean")[0], of(lines, "corrupted")[0]
    edges = [[width(row[: m.start()]) for m in re.finditer(r"\|", row)] for row in (clean, corrupted)]
    assert edges[0] == edges[1]


def test_show_takes_prompts_alone() -> None:
    prompts = ct.task("induction", distance=8, examples=2).prompts(Vocabulary.of(None, 100))
    assert len(show("mine", prompts, Vocabulary.of(None, 100), None).examples) == 2
