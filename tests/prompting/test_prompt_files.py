"""A task from a table of prompts: what is read, and what is refused with the line where it stands."""

from __future__ import annotations

import csv
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import CircuitryError, TaskError
from circuitry.prompting import Prompts
from support import tiny
from support.prompt_tables import COLUMNS, ROWS, written


@cache
def model(name: str = "bundled:mamba") -> ct.Model:
    return ct.load(name)


def prompts(path: Path, **options: Any) -> Prompts:
    return ct.task(path, **options).prompts(model().vocabulary)


def alike(one: Prompts, other: Prompts) -> bool:
    parts = ("clean", "corrupted", "answer", "foil")
    same = all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)
    return same and all(np.array_equal(one.where[name], other.where[name]) for name in {*one.where, *other.where})


# --- what is read ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", (".csv", ".jsonl"))
def test_every_row_is_an_example_in_its_order(suffix: str, tmp_path: Path) -> None:
    task = ct.task(written(tmp_path / f"p{suffix}"))
    made, words = task.prompts(model().vocabulary), model().vocabulary
    assert (len(made), task.examples, task.name) == (3, 3, f"p{suffix}")
    assert task.definition.positions == task.definition.sweep == ("IO", "S2", "END")
    for row, (clean, corrupted, answer, foil, io, _) in enumerate(ROWS):
        end = made.where["END"][row]
        for side, text in (("clean", clean), ("corrupted", corrupted)):
            assert model().tokenizer.decode(getattr(made, side)[row, : end + 1]) == f"<|endoftext|>{text}"
        assert (words.decode(made.answer[row]), words.decode(made.foil[row])) == (answer, foil)
        at = {name: words.decode(made.clean[row, made.where[name][row]]).strip() for name in ("IO", "S2")}
        assert at == {"IO": io.strip(), "S2": foil.strip()}
        s2 = np.flatnonzero(made.clean[row, : end + 1] == made.foil[row])[-1]
        assert made.where["S2"][row] == s2, "the second one"
        after = made.clean[row, end + 1 :]
        assert (after == after[:1]).all() and (made.corrupted[row, end + 1 :] == after).all(), "padding stands after END"
    assert len(set(made.where["END"])) > 1 and made.changed is None, "S1 changes too, and has no name"


def test_what_a_spreadsheet_makes_of_it_reads_the_same(tmp_path: Path) -> None:
    plain = prompts(written(tmp_path / "plain.csv"))
    spreadsheets: dict[str, dict[str, Any]] = {
        "bom": {"encoding": "utf-8-sig"},
        "unix": {"lineterminator": "\n"},
        "quoted": {"quoting": csv.QUOTE_ALL},
        "mac": {"lineterminator": "\r"},
    }
    for name, how in spreadsheets.items():
        assert alike(prompts(written(tmp_path / f"{name}.csv", **how)), plain), name
    spaced = tmp_path / "blank.csv"
    spaced.write_text("\n" + (tmp_path / "unix.csv").read_text().replace("\n", "\n\n"))
    assert alike(prompts(spaced), plain)
    crlf = tmp_path / "crlf.jsonl"
    crlf.write_bytes(written(tmp_path / "p.jsonl").read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert alike(prompts(crlf), plain)


def test_the_order_of_columns_is_free(tmp_path: Path) -> None:
    turned = [tuple(reversed(row)) for row in ROWS]
    assert alike(prompts(written(tmp_path / "a.csv", turned, COLUMNS[::-1])), prompts(written(tmp_path / "b.csv")))


def test_fewer_examples_are_a_choice_by_the_seed_which_a_larger_one_holds(tmp_path: Path) -> None:
    rows = [
        (f"So {a} met {b} and", f"So Tom met {b} and", f" {a}", f" {b}")
        for a in ("Mary", "James", "Peter")
        for b in ("John", "David")
    ]
    path = written(tmp_path / "p.csv", rows, COLUMNS[:4])
    texts = {seed: [set(map(tuple, prompts(path, examples=n, seed=seed).clean.tolist())) for n in (2, 4, 6)] for seed in range(5)}
    assert all(few < more < every and len(few) == 2 for few, more, every in texts.values())
    assert len({frozenset(few) for few, _, _ in texts.values()}) > 1
    assert alike(prompts(path, seed=0), prompts(path, seed=1)), "all rows are all rows"
    with pytest.raises(TaskError, match=r"examples must be at most 6, the rows of p.csv, got 7"):
        prompts(path, examples=7)


def test_what_stands_in_front_is_an_option(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv")
    auto, without = prompts(path), prompts(path, begin="no")
    for one, other, end in zip(auto.clean, without.clean, without.where["END"], strict=True):
        assert one[: end + 2].tolist() == [0, *other[: end + 1]]
    assert all((auto.where[name] == without.where[name] + 1).all() for name in auto.where)
    with pytest.raises(TaskError, match="expected auto, yes or no as begin, got 'maybe'"):
        prompts(path, begin="maybe")


def test_without_positions_the_last_changed_token_is_one(tmp_path: Path) -> None:
    rows = [
        ("So Mary met John and", "So Tom met John and", " Mary", " John"),
        ("So Mary saw Peter and", "So David saw Paul and", " Mary", " Peter"),
    ]
    one = prompts(written(tmp_path / "one.csv", rows[:1], COLUMNS[:4]))
    assert one.changed == ("CHANGED",) and one.where["CHANGED"].tolist() == one.first_changed.tolist()
    two = prompts(written(tmp_path / "two.csv", rows, COLUMNS[:4]))
    assert two.changed is None and two.first_changed.tolist() != two.where["CHANGED"].tolist()
    assert (two.where["CHANGED"] == [np.flatnonzero(a != b)[-1] for a, b in zip(two.clean, two.corrupted, strict=True)]).all()


def test_an_answer_may_stand_in_the_prompt_or_not(tmp_path: Path) -> None:
    rows = [
        ("Mary met John and", "Tom met John and", " Mary", " John"),
        ("The king of France is", "The king of England is", " Mary", " John"),
    ]
    assert len(prompts(written(tmp_path / "p.csv", rows, COLUMNS[:4]))) == 2


def test_an_answer_without_a_space_goes_on_where_the_prompt_ends(tmp_path: Path) -> None:
    made = prompts(written(tmp_path / "p.csv", [("in the year 17", "in the year 18", "4", "3")], COLUMNS[:4]))
    assert [model().vocabulary.decode(int(t)) for t in (made.answer[0], made.foil[0])] == ["4", "3"]


# --- what is refused -------------------------------------------------------------------------------------------------------

GOOD = "Mary met John and,Tom met John and, Mary, John"
HEAD = "clean,corrupted,answer,foil"
FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "p.csv has no prompts; every row needs clean, corrupted, answer, foil"),
    "header only": (f"{HEAD}\n", "p.csv has no prompts; every row needs clean, corrupted, answer, foil"),
    "missing column": (
        f"clean,corrupted,answer\n{GOOD}\n",
        "p.csv, line 1: the column 'foil' is missing; expected clean, corrupted, answer, foil, and positions in capitals",
    ),
    "unknown column": (
        f"{HEAD},subject\n",
        "p.csv, line 1: unknown column 'subject'; known here: answer, clean, corrupted, foil; write a position in capitals, such as SUBJECT",
    ),
    "misspelt column": (
        "clean, corrupted,answer,foil\n",
        "p.csv, line 1: unknown column ' corrupted'; did you mean 'corrupted'?; write a position in capitals, such as SUBJECT",
    ),
    "column twice": (f"{HEAD},foil\n", "p.csv, line 1: two columns are called 'foil'"),
    "END": (f"{HEAD},END\n", "p.csv, line 1: END is always the last token of the prompt, so it needs no column"),
    "semicolons": (HEAD.replace(",", ";"), "p.csv, line 1: expected commas between columns, got ';'"),
    "too many cells": (
        f"{HEAD}\n{GOOD}\n\nMary, and John met,Tom and John met, Mary, John\n",
        "p.csv, line 4: expected 4 cells, got 5; put a text with a comma in double quotes",
    ),
    "too few cells": (f"{HEAD}\nMary met\n", "p.csv, line 2: expected 4 cells, got 1; put a text with a comma in double quotes"),
    "open quote": (f'{HEAD}\n{GOOD}\n"Mary met,Tom, Mary, John\n', "p.csv, line 3: unexpected end of data"),
    "after a quoted line break": (
        f'{HEAD}\n"Mary\nmet John and","Tom\nmet John and", Mary, John\nMary met,,a,b\n',
        "p.csv, line 5, corrupted: the cell is empty",
    ),
    "bytes": (
        f"{HEAD}\n{GOOD}\nPel\xe9,Tom,a,b\n".encode("latin-1"),
        "p.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    "answer is foil": (f"{HEAD}\nMary met,Tom met, Mary, Mary\n", "p.csv, line 2, foil: the same as the answer, ' Mary'"),
    "nothing corrupted": (
        f"{HEAD}\nMary met,Mary met, Mary, John\n",
        "p.csv, line 2, corrupted: the same as clean, so patching one into the other does nothing",
    ),
    "a row again": (
        f"{HEAD}\n{GOOD}\nTom met,John met, Tom, John\n{GOOD}\n",
        "p.csv, line 4, clean: the same two prompts as in line 2, which would count one example twice",
    ),
    "lengths": (
        f"{HEAD}\n{GOOD}\nMary met John and,Bartholomew met John and, Mary, John\n",
        "p.csv, line 3, corrupted: 9 tokens, and clean has 5; the two must be equally long "
        "(B|ar|th|ol|ome|w| met| John| and and M|ary| met| John| and)",
    ),
    "answer of several tokens": (
        f"{HEAD}\n{GOOD}\nThe king of France in,The king of England in, Paris, London\n",
        "p.csv, line 3, answer: ' Paris' after 'of France in' is not one token of this model: read as ' in| P|aris'",
    ),
    "foil without a space": (
        f"{HEAD}\nMary met John and,Tom met John and, Mary,John\n",
        "p.csv, line 2, foil: 'John' after 'met John and' is not one token of this model: read as ' and|J|ohn'; with a space in front, "
        "' John', it is one",
    ),
    "glued": (
        f"{HEAD}\nMary met John and,Tom met John and,C, John\n",
        "p.csv, line 2, answer: 'C' is read as 'met John andC'; write ' C' if a space comes first",
    ),
    "prompt ends with a space": (
        f'{HEAD}\n"Mary met John and ","Tom met John and ",Mary,John\n',
        "p.csv, line 2, answer: 'Mary' after 'et John and ' is not one token of this model: read as ' Mary'; clean ends with a space: "
        "remove it, and write ' Mary'",
    ),
    "no such piece": (f"{HEAD},IO\n{GOOD},Jack\n", "p.csv, line 2, IO: 'Jack' does not occur in clean, 'Mary met John and'"),
    "twice": (
        f"{HEAD},IO\nMary met Mary and,Tom met Tom and, Mary, John,Mary\n",
        "p.csv, line 2, IO: 'Mary' occurs 2 times in clean; write 'Mary#2' for the second one",
    ),
    "no third": (
        f"{HEAD},IO\nMary met Mary and,Tom met Tom and, Mary, John,Mary#3\n",
        "p.csv, line 2, IO: 'Mary' occurs 2 times in clean; expected a number from 1 to 2, got 3",
    ),
    "inside a token": (
        f"{HEAD},IO\n{GOOD},Joh\n",
        "p.csv, line 2, IO: 'Joh' does not begin and end with a token of this model: M|ary| met| John| and",
    ),
    "end of a token": (
        f"{HEAD},IO\n{GOOD},ohn\n",
        "p.csv, line 2, IO: 'ohn' does not begin and end with a token of this model: M|ary| met| John| and",
    ),
    "no position": (f"{HEAD},IO\n{GOOD},\n", "p.csv, line 2, IO: the cell is empty"),
}
LINES: dict[str, tuple[str, str]] = {
    "json": ('{"clean": 1,}\n', "p.jsonl, line 1: not JSON: Expecting property name enclosed in double quotes at character 13"),
    "list": ("\n[1]\n", "p.jsonl, line 2: expected an object with clean, corrupted, answer, foil, got list"),
    "number": (
        '{"clean": "a", "corrupted": "b", "answer": 4, "foil": "5"}',
        "p.jsonl, line 1, answer: expected text, got 4",
    ),
    "twice": ('{"clean": "a", "clean": "b"}', "p.jsonl, line 1: 'clean' is given twice"),
    "missing": (
        '{"clean": "a", "corrupted": "b", "answer": "c"}',
        "p.jsonl, line 1: the column 'foil' is missing; expected clean, corrupted, answer, foil, and positions in capitals",
    ),
    "in some rows": (
        '{"clean": "a", "corrupted": "b", "answer": "c", "foil": "d"}\n'
        '{"clean": "a b", "corrupted": "b b", "answer": "c", "foil": "d", "IO": "a"}',
        "p.jsonl, line 2: IO is given in some rows only; every row needs the same columns",
    ),
    "empty": ("\n \n", "p.jsonl has no prompts; every row needs clean, corrupted, answer, foil"),
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("p.csv", *case) for case in FILES.values()] + [("p.jsonl", *case) for case in LINES.values()],
    ids=[*FILES, *(f"jsonl {name}" for name in LINES)],
)
def test_what_is_wrong_is_said_with_its_line(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TaskError) as found:
        prompts(path)
    assert str(found.value) == message


def test_files_that_are_not_there_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=r"no file .*nowhere.csv"):
        ct.task(tmp_path / "nowhere.csv")
    (tmp_path / "p.tsv").write_text(HEAD)
    with pytest.raises(TaskError, match=r"expected a task file \(.py, .csv, .jsonl\), got '.*p.tsv'"):
        ct.task(tmp_path / "p.tsv")


def test_a_model_without_a_tokenizer_cannot_read_text(tmp_path: Path) -> None:
    task = ct.task(written(tmp_path / "p.csv"))
    with pytest.raises(
        TaskError, match=r"p.csv holds text, and the model was loaded without a tokenizer; give circuitry.load a tokenizer"
    ):
        task.prompts(tiny.model("gpt2").vocabulary)


# --- what is run -----------------------------------------------------------------------------------------------------------


def test_rows_are_patched_as_they_are_alone(tmp_path: Path) -> None:
    """Each row's effect is that of a file with this row only, which has no padding."""
    path = "h[{layer}] @ {position} -> logits freezing h"
    options: dict[str, Any] = {"baseline": 0, "lint": False, "metric": "logit_difference"}
    whole = ct.patch(model(), ct.task(written(tmp_path / "p.csv")), path, executor=ct.executor(verify=2), **options).frame
    for row in range(3):
        alone = ct.patch(model(), ct.task(written(tmp_path / f"{row}.csv", ROWS[row : row + 1])), path, **options).frame
        np.testing.assert_allclose(whole[whole["example"] == row]["effect"], alone["effect"], atol=1e-4)


def test_two_files_of_one_name_are_two_tasks(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    other = [(*ROWS[0][:3], " Alice", *ROWS[0][4:]), *ROWS[1:]]  # only a foil differs
    one, same, another = (
        ct.task(written(tmp_path / name / "p.csv", rows)) for name, rows in zip("abc", (ROWS, ROWS, other), strict=True)
    )
    assert repr(one) == repr(same) != repr(another)
    assert repr(one) == f"<task p.csv ({one.definition.source}): begin='auto', examples=3, seed=0>"


@pytest.mark.parametrize("begin", ("auto", "no"))
def test_the_linter_asks_whether_the_model_prefers_the_answers(begin: str, tmp_path: Path) -> None:
    turned = [(row[0], row[1], row[3], row[2], *row[4:]) for row in ROWS]
    with pytest.warns(UserWarning, match="the model does not prefer the answer to the foil"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does no better.*")
        task = ct.task(written(tmp_path / "p.csv", turned), begin=begin)
        ct.patch(model(), task, "h[2] @ IO -> logits", baseline=0)
