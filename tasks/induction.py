"""Induction: [A][B] ... [A], where the model should answer [B] (Olsson et al. 2022; the paper's section 6).

``form`` says what the tokens are:

* "pair": random tokens, all different, so only the earlier pair predicts the answer, as in the paper
* "repeated": the same, but the tokens before the second [A] repeat those before the first, as in a text that says a thing twice
* "names": an English text in which a person is first named in full, [A] is the first name and [B] the second; each name is one
  token

``distance`` is the number of tokens from the first [A] to the second (in "names" at least so many). ``prefix`` is the number of
tokens before the first [A]; in "names" the text decides it. Corruption "B" replaces [B] by [B'], corruption "A" the first [A] by
[A'].
"""

import numpy as np

from circuitry.errors import TaskError, expected
from circuitry.prompting import Prompts, TaskDefinition, front
from circuitry.prompting.english import NAMES, OBJECTS, PLACES

FEWEST_NAMES = 8
BEGINNINGS = (
    "In the spring, {A} {B} came to live in the village.",
    "Everybody here remembers {A} {B} very well.",
    "The first person in the room was {A} {B}.",
    "It was a long letter, and it was signed {A} {B}.",
    "For many years the school belonged to {A} {B}.",
)
MIDDLES = (
    "The {object} was still in the {place}.",
    "There was a {object} on the table near the door.",
    "The road to the {place} was long and very dark.",
    "Nobody had seen the {place} for a long time.",
    "It rained, and the old {object} was wet.",
    "The {place} was closed that day.",
    "They found a {object} behind the {place}.",
    "The people of the {place} had nothing to say about it.",
)
ENDINGS = (
    "Then the door opened, and in came",
    "In the end the {place} was sold to",
    "At last there was an answer from",
    "The {object} had been a gift from",
    "All of this was told to me by",
)


def make(vocabulary, rng, *, examples, distance, corruption, prefix, form):
    if distance < 2:
        raise TaskError(f"distance must be at least 2, to leave room for [B] between the two [A], got {distance}")
    if prefix < 0:
        raise TaskError(f"prefix must be at least 0, got {prefix}")
    if corruption not in ("A", "B"):
        raise TaskError(expected("corruption 'B' ([A][B'] ... [A]) or 'A' ([A'][B] ... [A])", corruption))
    if form not in FORMS:
        raise TaskError(expected(f"form {', '.join(FORMS)}", form))
    clean, first, end, others = FORMS[form](vocabulary, rng, examples, distance, prefix)
    corrupted, rows = clean.copy(), np.arange(examples)
    corrupted[rows, first + (corruption == "B")] = others
    return Prompts(
        clean,
        corrupted,
        answer=clean[rows, first + 1],
        foil=others,
        where={"A": first, "B": first + 1, "END": end},
        changed=(corruption,),
    )


def _pair(vocabulary, rng, examples, distance, prefix):
    """Clean prompts, where the first [A] and END are, and the token that replaces [A] or [B]."""
    needed = prefix + distance + 1
    if needed > len(vocabulary.ordinary):
        raise TaskError(f"distance {distance} needs {needed} different tokens; the model has {len(vocabulary.ordinary)}")
    drawn = np.stack([rng.choice(vocabulary.ordinary, needed, replace=False) for _ in range(examples)])
    clean = np.concatenate([drawn[:, :-1], drawn[:, prefix : prefix + 1]], axis=1)
    return clean, np.full(examples, prefix), np.full(examples, prefix + distance), drawn[:, -1]


def _repeated(vocabulary, rng, examples, distance, prefix):
    if prefix < 1:
        raise TaskError("with form='repeated', prefix must be at least 1: these are the tokens that are repeated before [A]")
    if distance < prefix + 2:
        raise TaskError(f"with form='repeated', distance must be at least prefix + 2 = {prefix + 2}, got {distance}")
    clean, first, end, others = _pair(vocabulary, rng, examples, distance, prefix)
    clean[:, distance : distance + prefix] = clean[:, :prefix]
    return clean, first, end, others


def _names(vocabulary, rng, examples, distance, prefix):
    if vocabulary.tokenizer is None:
        raise TaskError("form='names' makes English text, and this model has no tokenizer; use form='pair' or 'repeated'")
    names = vocabulary.single(NAMES)
    if len(names) < FEWEST_NAMES:
        raise TaskError(
            f"form='names' needs at least {FEWEST_NAMES} names that are one token; this model has {len(names)}; use form='pair'"
        )
    ahead = front(vocabulary, "auto")
    drawn = [_text(vocabulary, rng, distance, names, ahead) for _ in range(examples)]
    drawn.sort(key=lambda example: len(example[0]))
    clean = np.full((examples, len(drawn[-1][0])), [*ahead, vocabulary.ordinary[0]][0])
    for row, (ids, *_) in zip(clean, drawn, strict=True):
        row[: len(ids)] = ids
    first, others = (np.array([example[part] for example in drawn]) for part in (1, 2))
    return clean, first, np.array([len(ids) - 1 for ids, *_ in drawn]), others


def _text(vocabulary, rng, distance, names, ahead):
    """The tokens of one text, where [A] is first, and the token of a third name."""
    first, second, other = rng.choice(list(names), 3, replace=False)
    beginning, ending = _sentence(rng, BEGINNINGS).format(A=first, B=second), f"{_sentence(rng, ENDINGS)} {first}"
    middle = list[str]()
    while True:
        middle.append(_sentence(rng, [text for text in MIDDLES if text not in middle[-1:]]))
        text = " ".join([beginning, *middle, ending])
        ids = [*ahead, *vocabulary.encode(text)]
        at = [place for place, token in enumerate(ids) if token == names[first]]
        if len(at) != 2 or at[1] != len(ids) - 1 or ids[at[0] + 1] != names[second]:
            raise TaskError(f"the tokenizer does not separate the names {first} and {second} in {text!r}; use form='pair'")
        if at[1] - at[0] >= distance:
            return ids, at[0], names[other]


def _sentence(rng, choices):
    return str(rng.choice(choices)).replace("{place}", rng.choice(PLACES)).replace("{object}", rng.choice(OBJECTS))


FORMS = {"pair": _pair, "repeated": _repeated, "names": _names}


TASK = TaskDefinition(
    name="induction",
    description="[A][B] ... [A] -> [B] on random tokens, in a repeated sequence, or in English with names",
    make=make,
    positions=("A", "B", "END"),
    sweep=("A", "B", "B+1", "B+2", "B+3", "B+4", "B+5"),
    options={"distance": 32, "corruption": "B", "prefix": 7, "form": "pair"},
)
