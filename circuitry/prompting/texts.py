"""Prompts as text, for readers: the tokens of the clean and of the corrupted prompt, the named positions, answer and foil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from .prompts import Prompts

MARK = ("[", "->", "]")
"""In plain text, a token that differs is written [clean->corrupted]."""


@dataclass(frozen=True)
class PromptTexts:
    """What a table keeps of its prompts. Lists of one entry for each example; padding is left out.

    ``clean`` and ``corrupted`` are token ids, which ``tokens`` has as text. ``where`` maps a position's name to its token's index.
    """

    clean: list[list[int]]
    corrupted: list[list[int]]
    answer: list[int]
    foil: list[int]
    where: dict[str, list[int]]
    tokens: dict[int, str]

    @classmethod
    def of(cls, prompts: Prompts, vocabulary: Any) -> Self:
        """The prompts of a task as text; ``vocabulary`` is that of the model, which decodes each token once.

        >>> import circuitry as ct
        >>> model, task = ct.load("bundled:gpt_neox"), ct.task("ioi", examples=1)
        >>> PromptTexts.of(task.prompts(model.vocabulary), model.vocabulary).text(0, "answer")
        ' Edward'
        """
        clean, corrupted = (
            [row[: int(end)].tolist() for row, end in zip(side, prompts.stops, strict=True)]
            for side in (prompts.clean, prompts.corrupted)
        )
        answer, foil = prompts.answer.tolist(), prompts.foil.tolist()
        used = sorted({token for ids in (*clean, *corrupted, answer, foil) for token in ids})
        where = {name: at.tolist() for name, at in prompts.where.items()}
        return cls(clean, corrupted, answer, foil, where, {token: vocabulary.decode(token) for token in used})

    def __len__(self) -> int:
        return len(self.clean)

    def placed(self, numbers: Sequence[int]) -> Self:
        """The same prompts as the examples with these numbers, if they are a part of a task's; the examples between are empty.

        >>> PromptTexts([[1]], [[2]], [1], [2], {"B": [0]}, {}).placed([2]).clean
        [[], [], [1]]
        """
        total = max(numbers, default=-1) + 1

        def spread(values: list[Any], empty: Any) -> list[Any]:
            spaced = [empty] * total
            for number, value in zip(numbers, values, strict=True):
                spaced[number] = value
            return spaced

        where = {name: spread(at, -1) for name, at in self.where.items()}
        clean, corrupted = spread(self.clean, []), spread(self.corrupted, [])
        return type(self)(clean, corrupted, spread(self.answer, -1), spread(self.foil, -1), where, self.tokens)

    def text(self, example: int, part: str) -> str:
        """The "answer" or the "foil" of an example, or its "clean" or "corrupted" prompt, as text.

        >>> PromptTexts([[1, 2]], [[1, 3]], [2], [3], {}, {1: "a", 2: " b", 3: " c"}).text(0, "corrupted")
        'a c'
        """
        ids = getattr(self, part)[example]
        return "".join(self.tokens[token] for token in (ids if isinstance(ids, list) else [ids]))

    def marked(self, example: int) -> str:
        """Both prompts in one line: a token that differs is written ``[clean->corrupted]``.

        >>> PromptTexts([[1, 2]], [[1, 3]], [2], [3], {}, {1: "a", 2: " b", 3: " c"}).marked(0)
        'a[ b-> c]'
        """
        before, between, after = MARK
        pairs = zip(self.clean[example], self.corrupted[example], strict=True)
        named = ((self.tokens[a], self.tokens[b]) for a, b in pairs)
        return "".join(a if a == b else f"{before}{a}{between}{b}{after}" for a, b in named)

    def names(self, example: int) -> dict[int, str]:
        """The names of an example's positions by the index of their token, such as "A, END" where two are the same token.

        >>> PromptTexts([[1, 2]], [[1, 3]], [2], [3], {"B": [1], "END": [1]}, {}).names(0)
        {1: 'B, END'}
        """
        by_token: dict[int, str] = {}
        for name, at in self.where.items():
            by_token[at[example]] = ", ".join(filter(None, [by_token.get(at[example]), name]))
        return by_token

    def to_data(self) -> dict[str, Any]:
        """As JSON data. Of a corrupted prompt only the tokens that differ are written, with their indices.

        >>> PromptTexts([[1, 2]], [[1, 3]], [2], [3], {}, {1: "a", 2: " b", 3: " c"}).to_data()["changes"]
        [[[1, 3]]]
        """
        pairs = zip(self.clean, self.corrupted, strict=True)
        changes = [[[n, b] for n, (a, b) in enumerate(zip(*rows, strict=True)) if a != b] for rows in pairs]
        rest = {"answer": self.answer, "foil": self.foil, "where": self.where}
        return {"clean": self.clean, "changes": changes, **rest, "tokens": list(map(list, self.tokens.items()))}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_data`` wrote.

        >>> texts = PromptTexts([[1, 2]], [[1, 3]], [2], [3], {"B": [1]}, {1: "a", 2: " b", 3: " c"})
        >>> PromptTexts.from_data(texts.to_data()) == texts
        True
        """
        clean = [list(row) for row in data["clean"]]
        corrupted = [list(row) for row in clean]
        for row, changes in zip(corrupted, data["changes"], strict=True):
            for index, token in changes:
                row[index] = token
        return cls(clean, corrupted, data["answer"], data["foil"], dict(data["where"]), {int(k): v for k, v in data["tokens"]})
