"""Vocabularies made of the words that a task needs."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from circuitry import content
from circuitry.models import Vocabulary

TASKS = ("greater_than", "agreement", "capital")
modules: dict[str, Any] = {name: content.load("tasks", name) for name in TASKS}
capital, agreement, greater = modules["capital"], modules["agreement"], modules["greater_than"]


def spaced(words: str, digits: str = r"\d") -> Vocabulary:
    """Every word is a token with the space before it, as in byte-level tokenizers; a number is cut into ``digits``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = [f"{n:02d}" for n in range(100)] if digits == r"\d\d" else [str(n) for n in range(10)]
    numbers += [str(n) for n in range(1000)] if digits == r"\d{1,3}" else []
    known = dict.fromkeys(["[U]", "Ġ", *(f"{space}{w}" for w in words.split() for space in ("", "Ġ")), *numbers])
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="[U]"))
    cut = pre_tokenizers.Split(Regex(rf" ?[A-Za-z]+|{digits}| "), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    return Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[U]"), len(known))


@cache
def vocabulary(name: str, digits: str = r"\d") -> Vocabulary:
    words = {
        "capital": [*capital.WORDINGS, *capital.CAPITALS, *capital.CAPITALS.values()],
        "agreement": [*sum(agreement.WORDINGS, ()), *(f"{n} {n}s" for n in agreement.NOUNS), *sum(agreement.VERBS.values(), ())],
        "greater_than": [greater.WORDING, greater.STEM, *greater.NOUNS],
    }[name]
    return spaced(" ".join(re.findall("[A-Za-z]+", " ".join(words) + " a")), digits)
