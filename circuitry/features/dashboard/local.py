"""A language model on this machine as a scorer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import CircuitryError
from .question import Question

if TYPE_CHECKING:
    from ...models.model import Model


class LocalScorer:
    """A causal language model that answers as in a chat if its tokenizer has a chat template, else by continuing the question.

    The score is the level whose number is the most probable next token, so every question has an answer and nothing is sampled.
    ``model`` is a loaded model or anything that ``circuitry.load`` takes, with ``dtype`` and ``device``. The bundled models have
    about a million parameters and have never seen such a question: use them to test the machinery; their answers mean nothing.

    Raises CircuitryError for a model without a tokenizer.
    """

    proxy = False

    def __init__(self, model: str | Model, *, dtype: str = "float32", device: str = "cpu") -> None:
        from ...models.loading import load

        self.model = load(model, dtype=dtype, device=device) if isinstance(model, str) else model
        if self.model.tokenizer is None:
            raise CircuitryError(f"{self.model.name} has no tokenizer, so it cannot read questions")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def key(self) -> str:
        """The name and the weights: everything that answers depend on."""
        return f"{self.name} {self.model.fingerprint}"

    def score(self, question: Question) -> int:
        """The most probable level, the lower one of a tie. Raises what ``probabilities`` raises."""
        by_level = self.probabilities(question)
        return max(by_level, key=lambda level: (by_level[level], -level))

    def probabilities(self, question: Question) -> dict[int, float]:
        """The probability of each level as the answer, normalised over levels.

        Raises CircuitryError if a level is not a single token of the model, or the question is too long for the model.

        >>> from circuitry.features.dashboard.contexts import Context
        >>> from circuitry.features.dashboard.question import COMPLEXITY, Question
        >>> by_level = LocalScorer("bundled:mamba").probabilities(Question(COMPLEXITY, (Context((" a",), (1.0,), 0, 0),)))
        >>> list(by_level), round(sum(by_level.values()), 6)
        ([1, 2, 3, 4, 5], 1.0)
        """
        import torch

        forms = self._forms(sorted(question.rubric.levels))
        ids = torch.tensor([self._prompt(question.text)], device=self.model.device)
        with torch.no_grad():
            logits = self.model.hf(ids, use_cache=False, logits_to_keep=1).logits[0, -1].double()
        probability = logits.softmax(-1)
        by_level = {level: sum(float(probability[token]) for token in tokens) for level, tokens in forms.items()}
        total = sum(by_level.values())
        return {level: share / total if total else 1 / len(by_level) for level, share in by_level.items()}

    def _prompt(self, text: str) -> list[int]:
        tokenizer = self.model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            text = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
            ids = self.model.vocabulary.encode(text)
        else:
            ids = [*self.model.vocabulary.front, *self.model.vocabulary.encode(f"{text}\nAnswer:")]
        most = self.model.positions
        if most is not None and len(ids) > most:
            raise CircuitryError(
                f"the question has {len(ids)} tokens and {self.name} reads {most}; try fewer or shorter contexts, or another scorer"
            )
        return ids

    def _forms(self, levels: list[int]) -> dict[int, list[int]]:
        """The tokens that answer with each level: bare and after a space, each form only if every level has it."""
        words = [str(level) for level in levels]
        bare = {word: ids[0] for word in words if len(ids := self.model.vocabulary.encode(word)) == 1}
        forms = [form for form in (bare, self.model.vocabulary.single(words)) if len(form) == len(words)]
        if not forms:
            raise CircuitryError(
                f"not every one of {', '.join(words)} is a single token of {self.name}, so it cannot answer with one"
            )
        return {level: sorted({form[word] for form in forms}) for level, word in zip(levels, words, strict=True)}
