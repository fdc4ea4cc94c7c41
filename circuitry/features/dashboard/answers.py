"""Answers of scorers on disk, so that a run resumes after a stop and asks no question twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ...store.files import make_folder, writing
from .question import Question
from .scorer import Scorer


class Answers:
    """Answers by scorer and question, one line of JSON each in ``answers.jsonl`` of a folder; in memory without a folder.

    A line holds the digest of the scorer's key and the prompt, the scorer's name, the score's name, and the unparsed answer. A
    line that was cut off when a run was killed is ignored.

    >>> from circuitry.features.dashboard.proxy import ProxyScorer
    >>> from circuitry.features.dashboard.question import COMPLEXITY, Question
    >>> answers, question = Answers(), Question(COMPLEXITY, ())
    >>> answers.put(ProxyScorer(), question, 3)
    >>> answers.has(ProxyScorer(), question), answers.get(ProxyScorer(), question)
    (True, 3)
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._file = None if folder is None else Path(folder) / "answers.jsonl"
        self._answers: dict[str, int | str | None] = {}
        if self._file is not None and self._file.exists():
            self._read(self._file)

    def _read(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8", errors="replace")  # a kill may cut a character in two
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
                self._answers[entry["key"]] = entry["answer"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # cut off by a kill
        if text and not text.endswith("\n"):  # else the next answer would be appended to the broken line
            with writing(file), file.open("a", encoding="utf-8") as out:
                out.write("\n")

    def has(self, scorer: Scorer, question: Question) -> bool:
        """Whether the question was answered; a refusal counts."""
        return _key(scorer, question) in self._answers

    def get(self, scorer: Scorer, question: Question) -> int | str | None:
        """The answer. Raises KeyError if there is none."""
        return self._answers[_key(scorer, question)]

    def put(self, scorer: Scorer, question: Question, answer: int | str | None) -> None:
        """Store an answer; it is on disk when this returns."""
        key = _key(scorer, question)
        self._answers[key] = answer
        if self._file is not None:
            line = {"key": key, "scorer": scorer.name, "score": question.rubric.name, "answer": answer}
            make_folder(self._file.parent)
            with writing(self._file), self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


def _key(scorer: Scorer, question: Question) -> str:
    text = f"{getattr(scorer, 'key', scorer.name)}\n{question.text}"
    return hashlib.sha256(text.encode()).hexdigest()
