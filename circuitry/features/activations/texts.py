"""Documents from a folder, a file, an iterable, a Hugging Face data set, or the documentation of the running Python."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from ...blame import not_utf8
from ...errors import CircuitryError, expected
from ...models.hub import OFFLINE, unreachable
from .manual import manual

Texts: TypeAlias = str | Path | Iterable[str] | None
"""Where text comes from; ``documents`` says what may be given."""

SHORTEST = 20
"""Characters: a shorter document is dropped, since it says little, and all its tokens lie right after the first one."""

_DATASET = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_FILES = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")


def documents(source: Texts = None) -> Iterator[str]:
    """The documents of a source in order, without those of fewer than 20 characters.

    ``source`` is one of

    * None: the documentation of the running Python, in a shuffled order that is always the same
    * a folder: every .txt and .md file in it and below, sorted by path
    * a .txt or .md file: its documents are separated by two blank lines or more; one blank line separates paragraphs
    * a .jsonl or .jsonl.gz file: the field ``text`` of every line, or its only field that is text
    * a .parquet file: the column ``text``
    * the name of a Hugging Face data set, with ``:configuration`` after it if it has several: the split ``train``, streamed
      (``pip install 'circuitry-lm[datasets]'``)
    * an iterable of str, one for each document

    Raises CircuitryError for a source that does not exist, has no text or is not UTF-8.

    >>> list(documents(["too short", "long enough to be a document"]))
    ['long enough to be a document']
    """
    return (text for text in _read(source) if len(text.strip()) >= SHORTEST)


def describe(source: Texts = None) -> str:
    """A description of a source in words, without its path.

    >>> describe(["one", "two"])
    'texts given in Python'
    >>> describe("Skylion007/openwebtext")
    'the Hugging Face data set Skylion007/openwebtext'
    """
    if source is None:
        return str(manual())
    if not isinstance(source, str | Path):
        return "texts given in Python"
    path = Path(source)
    if path.exists():
        return f"the folder {path.resolve().name}" if path.is_dir() else f"the file {path.name}"
    return f"the Hugging Face data set {source}"


def _read(source: Texts) -> Iterable[str]:
    if source is None:
        return manual().shuffled()
    if not isinstance(source, str | Path):
        return _given(source)
    path, name = Path(source), str(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if isinstance(source, Path) or name.endswith(_FILES) or not _DATASET.fullmatch(name):
        raise CircuitryError(
            f"no file or folder {name!r}; a Hugging Face data set is named OWNER/NAME, and texts themselves are given in a list"
        )
    return _dataset(name)


def _given(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise CircuitryError(f"text number {number} is of type {type(text).__name__}; every document must be a str")
        yield text


@contextmanager
def _lines(path: Path) -> Iterator[Iterable[str]]:
    """The lines of a file. Raises CircuitryError with the line for bytes that are not UTF-8, which would become other tokens unseen."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            yield lines
    except UnicodeDecodeError as error:
        raise CircuitryError(not_utf8(path)) from error


def _folder(path: Path) -> Iterator[str]:
    files = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".md") and file.is_file())
    if not files:
        raise CircuitryError(f"the folder {path} has no .txt or .md file; give other files one by one")
    return (text for file in files for text in _plain(file))


def _file(path: Path) -> Iterator[str]:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path)
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix in (".txt", ".md"):
        return _plain(path)
    raise CircuitryError(expected(f"a file of text ({', '.join(_FILES)})", path.name))


def _plain(path: Path) -> Iterator[str]:
    """Documents of a file that is read line by line, since it may be larger than memory."""
    document: list[str] = []
    blank: list[str] = []
    with _lines(path) as lines:
        for line in lines:
            if not line.strip():
                blank.append(line)
                continue
            if document and len(blank) >= 2:
                yield "".join(document).removesuffix("\n")
                document = []
            document += [*blank, line] if document else [line.lstrip()]
            blank = []
    if document:
        yield "".join(document).rstrip()


def _json_lines(path: Path) -> Iterator[str]:
    with _lines(path) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _text_of(json.loads(line), f"line {number} of {path.name}")
        except (json.JSONDecodeError, OSError, EOFError) as error:
            raise CircuitryError(f"{path.name} cannot be read as lines of JSON: {error}") from error


def _text_of(row: Any, where: str) -> str:
    """The field ``text``, or the only field that is text."""
    if not isinstance(row, Mapping):
        raise CircuitryError(f"{where} is not a JSON object with a field 'text'")
    if isinstance(row.get("text"), str):
        return str(row["text"])
    fields = [name for name, value in row.items() if isinstance(value, str)]
    if len(fields) != 1:
        raise CircuitryError(
            f"{where} has no field 'text', and {len(fields)} fields of text ({', '.join(fields) or 'none'}) instead of one"
        )
    return str(row[fields[0]])


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowInvalid

    try:
        file = parquet.ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise CircuitryError(f"{path.name} cannot be read as Parquet: {error}") from error
    columns = file.schema_arrow.names
    if "text" not in columns:
        raise CircuitryError(f"{path.name} has no column 'text'; its columns are {', '.join(columns)}")
    return (text for part in file.iter_batches(columns=["text"]) for text in part["text"].to_pylist() if text is not None)


def _dataset(name: str) -> Iterator[str]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CircuitryError(
            f"no file or folder {name!r}; to read a Hugging Face data set of that name, install the extra: "
            "pip install 'circuitry-lm[datasets]'"
        ) from error
    path, _, configuration = name.partition(":")
    try:
        # Without a network the client reads what it has in its cache, if HF_HUB_OFFLINE says so beforehand; else it tries for minutes.
        if (reason := unreachable(path, kind="dataset")) and reason != OFFLINE:
            raise ConnectionError(f"{reason}; set {OFFLINE.split()[0]}=1 to read one that was downloaded before")
        for number, row in enumerate(load_dataset(path, configuration or None, split="train", streaming=True)):
            yield _text_of(row, f"row {number} of {name}")
    except CircuitryError:
        raise
    except Exception as error:  # the Hub's clients raise many types of exceptions, with no common base
        raise CircuitryError(
            f"no file or folder {name!r}, and a data set of that name could not be downloaded from the Hub "
            f"({(str(error).strip().splitlines() or [type(error).__name__])[0]}). Offline, give a folder, a file or an iterable of str; "
            "without texts, the documentation of Python itself is read"
        ) from error
