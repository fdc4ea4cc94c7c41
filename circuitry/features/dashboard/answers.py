"""Answers of scorers on disk, so that a run that is stopped goes on where it was and asks nothing twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ...store.files import make_folder, writing
from .question import Question
from .scorer import Scorer


class Answers:
    """Answers by scorer and question, one line of JSON each in ``answers.jsonl`` of a folder; in memory without a folder.

    A line holds the digest of the scorer's key and the prompt, the scorer's name, the score's name and the answer as it was given. A
    line that was being written when a run was killed does not count.

    >>> from circuitry.features.dashboard.proxy import ProxyScorer
    >>> from circuitry.features.dashboard.question import COMPLEXITY, Question
    >>> known, asked = Answers(), Question(COMPLEXITY, ())
    >>> known.put(ProxyScorer(), asked, 3)
    >>> known.has(ProxyScorer(), asked), known.get(ProxyScorer(), asked)
    (True, 3)
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._file = None if folder is None else Path(folder) / "answers.jsonl"
        self._known: dict[str, int | str | None] = {}
        if self._file is not None and self._file.exists():
            self._read(self._file)

    def _read(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8")
        for line in text.split("\n"):
            try:
                one = json.loads(line)
                self._known[one["key"]] = one["answer"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # cut short by a kill
        if text and not text.endswith("\n"):
            with writing(file), file.open("a", encoding="utf-8") as out:
                out.write("\n")

    def has(self, scorer: Scorer, question: Question) -> bool:
        """Whether the question was answered, be it with a refusal."""
        return _key(scorer, question) in self._known

    def get(self, scorer: Scorer, question: Question) -> int | str | None:
        """The answer. Raises KeyError where there is none."""
        return self._known[_key(scorer, question)]

    def put(self, scorer: Scorer, question: Question, answer: int | str | None) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = _key(scorer, question)
        self._known[key] = answer
        if self._file is not None:
            line = {"key": key, "scorer": scorer.name, "score": question.rubric.name, "answer": answer}
            make_folder(self._file.parent)
            with writing(self._file), self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


def _key(scorer: Scorer, question: Question) -> str:
    told = f"{getattr(scorer, 'key', scorer.name)}\n{question.text}"
    return hashlib.sha256(told.encode()).hexdigest()
