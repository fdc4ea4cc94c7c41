"""Where text comes from: files, folders, data sets and the interpreter's own documentation."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuitry.errors import CircuitryError
from circuitry.features.activations import describe, documents, manual, texts
from support.corpora import LONG, SOURCE


def test_a_folder_gives_its_plain_files_sorted_and_two_blank_lines_separate_documents(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text(f"{LONG}\n\nsecond paragraph\n\n\n  \nshort\n \n\n{SOURCE}\n")
    (tmp_path / "a.md").write_text("The first of all documents.")
    (tmp_path / "deep" / "c.txt").write_text("The last of all documents.")
    (tmp_path / "a.py").write_text("# no text at all, although long enough")
    found = list(documents(tmp_path))
    assert found == [
        "The first of all documents.",
        f"{LONG}\n\nsecond paragraph",
        SOURCE,
        "The last of all documents.",
    ]
    assert list(documents(str(tmp_path / "b.txt"))) == found[1:3]
    assert describe(tmp_path) == f"the folder {tmp_path.name}" and describe(tmp_path / "b.txt") == "the file b.txt"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.sampled_from(["one", "  two", "three \t", "", "", "", " ", "\x0c"]), max_size=20))
def test_a_file_read_line_by_line_has_the_documents_of_the_whole_text(tmp_path: Path, lines: list[str]) -> None:
    text = "\n".join(lines)
    (tmp_path / "a.txt").write_text(text)
    whole = re.split(r"\n[^\S\n]*(?:\n[^\S\n]*){2,}", text.strip())
    assert list(texts._plain(tmp_path / "a.txt")) == [document for document in whole if document]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LONG, encoding="utf-8-sig")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": SOURCE}), encoding="utf-8-sig")
    assert [*documents(tmp_path), *documents(tmp_path / "b.jsonl")] == [LONG, SOURCE]


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_json(packed: bool, tmp_path: Path) -> None:
    lines = [{"text": LONG, "title": "x"}, {"number": 3, "body": SOURCE}]
    raw = "\n\n".join(map(json.dumps, lines)).encode()
    file = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    file.write_bytes(gzip.compress(raw) if packed else raw)
    assert list(documents(file)) == [LONG, SOURCE]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b'{"a": "x", "b": "y"}', "line 1 of a.jsonl has no field 'text', and 2 fields of text"),
        ("a.jsonl", b'\n{"a": 1}', r"line 2 of a.jsonl has no field 'text', and 0 fields of text \(none\)"),
        ("a.jsonl", b'["x"]', "line 1 of a.jsonl is not a JSON object"),
        ("a.jsonl", b"{", "a.jsonl cannot be read as lines of JSON"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "a.jsonl.gz cannot be read"),
        ("a.parquet", b"x", "a.parquet cannot be read as Parquet"),
        ("a.csv", b"x", "expected a file of text .*got 'a.csv'"),
    ],
)
def test_a_file_that_holds_no_text_says_why(name: str, raw: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(CircuitryError, match=message):
        list(documents(tmp_path / name))


def test_parquet(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "text": [LONG, None, SOURCE]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"body": [LONG]}), tmp_path / "b.parquet")
    assert list(documents(tmp_path / "a.parquet")) == [LONG, SOURCE]
    with pytest.raises(CircuitryError, match=r"no column 'text'; its columns are body"):
        list(documents(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.txt", "no file or folder 'nowhere.txt'"),
        (LONG, "texts themselves are given in a list"),
        (Path("nowhere"), "no file or folder 'nowhere'"),
        ([LONG, 3], "text number 1 is of type int"),
    ],
)
def test_a_source_that_is_not_there(source: Any, message: str) -> None:
    with pytest.raises(CircuitryError, match=message):
        list(documents(source))


def test_a_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=r"no \.txt or \.md file"):
        list(documents(tmp_path))


def test_a_hugging_face_data_set_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Iterator[Any]:
        asked.append((names, options))
        yield from ({"text": text} for text in [LONG, "short", SOURCE])
        raise AssertionError("read further than it was asked for")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr(texts, "unreachable", lambda *_, **__: "")
    assert list(itertools.islice(documents("owner/name:part"), 2)) == [LONG, SOURCE]
    assert asked == [(("owner/name", "part"), {"split": "train", "streaming": True})]
    assert describe("owner/name:part") == "the Hugging Face data set owner/name:part"


def test_a_hugging_face_data_set_without_the_extra_or_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("nobody answers\nand more")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr(texts, "unreachable", lambda *_, **__: "")
    with pytest.raises(CircuitryError, match=r"could not be downloaded from the Hub \(nobody answers\). Offline, give a folder"):
        next(documents("owner/name"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CircuitryError, match=r"pip install 'circuitry-lm\[datasets\]'"):
        next(documents("owner/name"))


def test_the_default_is_the_interpreters_own_documentation() -> None:
    texts = list(documents())
    assert texts == list(documents()) and len(texts) == len(set(texts))
    made = manual.manual()
    assert len(made.passages) > 200 and len(made.docstrings) > 4000
    assert 10 < sum(text in made.passages for text in texts[: len(made.passages) * 5]) < len(made.passages), "not shuffled"
    assert sum(len(text.split()) for text in texts) > 200_000
    assert any("JSON" in text for text in texts) and any(
        "``while`` statement" in text or '"while" statement' in text for text in texts
    )
    assert describe().startswith(f"the documentation of Python {sys.version.split()[0]}: ")


def test_the_documentation_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "json/__init__.py": '"""Of the package."""\nraise SystemExit\n',
        "json/tests/test_it.py": '"""Of a test."""',
        "string.py": 'try:\n    class A:\n        "Of A."\nexcept E:\n    def f():\n        """\n        Of f.\n        """\n',
        "random.py": '"Of the package."',
        "queue.py": "this is no Python",
        "mine.py": '"""Not of the standard library."""',
        "pydoc_data/topics.py": f"topics = {{'a': 'A paragraph.\\n\\n{'x' * 1000}\\n\\nThe rest.'}}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    found = manual.manual.__wrapped__()
    assert found.docstrings == ("Of the package.", "Of A.", "Of f.")
    assert found.passages == (f"A paragraph.\n\n{'x' * 1000}", "The rest.")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    with pytest.raises(CircuitryError, match="without its sources"):
        manual.manual.__wrapped__()


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    """They would be read as other characters, and so as other tokens, without a word."""
    good, bad = (
        "A first line of text that is long enough.\n",
        "Un caf\u00e9 au lait, un th\u00e9, et deux tartines beurr\u00e9es.\n",
    )
    line = json.dumps({"text": bad}, ensure_ascii=False) + "\n"
    for name, before, wrong in (("a.txt", good, bad), ("a.jsonl", json.dumps({"text": good}) + "\n", line)):
        file = tmp_path / "texts" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((before * 3000).encode() + wrong.encode("latin-1"))
        packed = file.with_name(f"{name}.gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        for source in (file, packed) if name == "a.jsonl" else (file, file.parent):
            shown = packed.name if source == packed else name
            with pytest.raises(CircuitryError, match=rf"^{shown}, line 3001: byte 0xe9 is not UTF-8; save the file as UTF-8$"):
                list(documents(source))
        file.write_bytes((before * 2).encode() + wrong.encode())
        assert "caf\u00e9" in list(documents(file))[-1]
        packed.unlink()
        file.unlink()
