"""Indirect object identification: "Then, Brandon and Mark went to the hospital. Mark gave a computer to" is answered
"Brandon" (Wang et al. 2023; the paper's appendix H).

IO is the indirect object and the answer. S is the subject and the foil; it occurs at S1 and again at S2. In order "ABBA" IO comes
first, in "BABA" S does; "both" alternates. ``template`` selects one of WORDINGS (-1: any). ``begin``: the tokens before the text
are those that the tokenizer adds, or else the token between documents ("auto": if there is one; "yes": required; "no": none). The
bundled models have seen no text without such a token.

Corruptions: "all" [IO][S] ... [S] -> [IO'][S'] ... [S'], as in the paper; "ABC" three different new names; "s2_io_flip" IO at S2,
so that S is the answer; "IO", "S1", "S2" a new name at that position; "S" the same new name at S1 and S2. The clean prompts are
the same for all of them. Examples are sorted by length; shorter ones are padded after END.

For a model without a tokenizer, each word of a sentence is a random token.
"""

import itertools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from circuitry.errors import TaskError, expected, suggest
from circuitry.prompting import Prompts, TaskDefinition, front
from circuitry.prompting.english import NAMES, OBJECTS, PLACES

WORDINGS = (
    "Then, {A} and {B} went to the {place}. {S} gave a {object} to",
    "When {A} and {B} got to the {place}, {S} handed the {object} to",
    "After {A} and {B} left the {place}, {S} wanted to give a {object} to",
    "While {A} and {B} were waiting at the {place}, {S} showed a {object} to",
    "Last week, {A} and {B} met near the {place}. It was late. {S} passed the {object} to",
    "In the morning, {A} and {B} walked to the {place}. {S} decided to give the {object} to",
    "Now that {A} and {B} had time at the {place}, {S} offered a {object} to",
    "One day, {A} and {B} found a {object} in the {place}. {S} gave it to",
    "As soon as {A} and {B} came back from the {place}, {S} gave the {object} back to",
    "Yesterday, {A} and {B} had a long talk at the {place}. In the end, {S} sold the {object} to",
    "Since {A} and {B} were alone in the {place}, {S} lent a {object} to",
    "Once {A} and {B} sat down in the {place}, {S} threw the small {object} to",
    "On Sunday, {A} and {B} were at the {place} again. Nothing had changed. {S} offered the last {object} to",
    "Before {A} and {B} went home from the {place}, {S} sent a new {object} to",
    "Later that evening, {A} and {B} looked at the {place}. {S} was in a good mood and lent the {object} to",
    "Although {A} and {B} did not like the {place}, {S} had bought a {object} and gave it to",
    "Today, {A} and {B} had lunch by the {place}. {S} smiled and carried the heavy {object} over to",
    "Soon {A} and {B} would reach the {place}. {S} wrote a note about the {object} and read it to",
)

ORDERS = {"ABBA": ("ABBA",), "BABA": ("BABA",), "both": ("ABBA", "BABA")}
CORRUPTIONS = {
    "all": {"IO": 2, "S1": 3, "S2": 3},
    "ABC": {"IO": 2, "S1": 3, "S2": 4},
    "s2_io_flip": {"S2": 0},
    "IO": {"IO": 2},
    "S": {"S1": 3, "S2": 3},
    "S1": {"S1": 3},
    "S2": {"S2": 3},
}
"""The person at each position of the corrupted prompt: 0 is IO, 1 is S, and 2 to 4 are not in the clean prompt."""
PEOPLE = 5
FEWEST_NAMES, FEWEST_THINGS = 8, 2
PIECE = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Words:
    """Words that suit a model, and how it reads a sentence. ``names`` maps each name to its token."""

    names: dict[str, int]
    places: list[str]
    objects: list[str]
    encode: Callable[[str], list[int]]


def make(vocabulary, rng, *, examples, order, corruption, template, begin):
    _check(order=(order, ORDERS), corruption=(corruption, CORRUPTIONS))
    if template not in range(-1, len(WORDINGS)):
        raise TaskError(expected(f"a template from 0 to {len(WORDINGS) - 1}, or -1 for any", template))
    ahead = front(vocabulary, begin)
    words = _words(vocabulary) if vocabulary.tokenizer is not None else _numbers(vocabulary, rng)
    turns = ORDERS[order]
    drawn = [_example(words, rng, turns[k % len(turns)], template, ahead) for k in range(examples)]
    drawn.sort(key=lambda example: len(example[0]))
    clean = np.full((examples, len(drawn[-1][0])), [*ahead, vocabulary.ordinary[0]][0])
    for row, (ids, _, _) in zip(clean, drawn, strict=True):
        row[: len(ids)] = ids
    people = np.array([persons for _, persons, _ in drawn])
    where = {name: np.array([at[name] for _, _, at in drawn]) for name in ("IO", "S1", "S2", "END")}
    corrupted, rows = clean.copy(), np.arange(examples)
    for name, person in CORRUPTIONS[corruption].items():
        corrupted[rows, where[name]] = people[:, person]
    return Prompts(clean, corrupted, people[:, 0], people[:, 1], where, tuple(CORRUPTIONS[corruption]))


def _check(**chosen):
    for option, (value, choices) in chosen.items():
        if value not in choices:
            raise TaskError(f"unknown {option} {value!r}; {suggest(value, choices)}")


def _example(words, rng, order, template, ahead):
    """One clean prompt: its tokens, the tokens of the five people, and the named positions."""
    wording = WORDINGS[template if template >= 0 else rng.integers(len(WORDINGS))]
    names = rng.choice(list(words.names), PEOPLE, replace=False)
    (first, second), place, thing = names[:2], rng.choice(words.places), rng.choice(words.objects)
    a, b = (first, second) if order == "ABBA" else (second, first)
    text = wording.format(A=a, B=b, S=second, place=place, object=thing)
    ids = [*ahead, *words.encode(text)]
    people = [words.names[name] for name in names]
    io, s = ([at for at, token in enumerate(ids) if token == person] for person in people[:2])
    if (len(io), len(s)) != (1, 2):
        raise TaskError(
            f"the tokenizer does not separate the names in {text!r}: {first} is read {len(io)} times, {second} {len(s)}"
        )
    return ids, people, {"IO": io[0], "S1": s[0], "S2": s[1], "END": len(ids) - 1}


def _words(vocabulary):
    """Names that are single tokens, or other words instead of them; places and objects."""
    names = vocabulary.single(NAMES)
    if len(names) < FEWEST_NAMES:
        _warn(f"only {len(names)} names are single tokens of this model, so other words are used for names")
        names = _stand_ins(vocabulary)
    return Words(names, _things(vocabulary, "places", PLACES), _things(vocabulary, "objects", OBJECTS), vocabulary.encode)


def _things(vocabulary, kind, words):
    """The words that are single tokens, so that prompts of one wording have one length; all words if too few are."""
    single = list(vocabulary.single(words))
    if len(single) >= FEWEST_THINGS:
        return single
    _warn(f"only {len(single)} {kind} are single tokens of this model, so longer ones are used: lengths differ within a wording")
    return words


def _stand_ins(vocabulary):
    """Single tokens that look like names, or like words if too few do, but none that the sentences contain."""
    taken = set(PIECE.findall(" ".join((*WORDINGS, *PLACES, *OBJECTS))))
    texts = dict.fromkeys(vocabulary.decode(int(token)).strip() for token in vocabulary.ordinary)
    words = [text for text in texts if text.isalpha() and len(text) > 2 and text not in taken]
    names = vocabulary.single(word for word in words if word.istitle())
    if len(names) < FEWEST_NAMES:
        names = vocabulary.single(words)
    if len(names) < FEWEST_NAMES:
        raise TaskError(f"IOI needs at least {FEWEST_NAMES} words that are one token, for names; this model has {len(names)}")
    return names


def _warn(message):
    warnings.warn(message, stacklevel=2)


def _numbers(vocabulary, rng):
    """Random tokens for words: up to half of them for names, the rest for all other words."""
    tokens = rng.permutation(vocabulary.ordinary).tolist()
    if len(tokens) < 2 * FEWEST_NAMES:
        raise TaskError(f"IOI needs at least {2 * FEWEST_NAMES} tokens, for names and other words; this model has {len(tokens)}")
    names = dict(zip(NAMES, tokens[: len(tokens) // 2], strict=False))
    pieces = dict.fromkeys(PIECE.findall(" ".join((*WORDINGS, *PLACES, *OBJECTS))))
    read = dict(zip(pieces, itertools.cycle(tokens[len(names) :]), strict=False)) | names
    return Words(names, PLACES, OBJECTS, lambda text: [read[piece] for piece in PIECE.findall(text)])


TASK = TaskDefinition(
    name="ioi",
    description="[IO] and [S] ... [S] gave a ... to -> [IO] in English sentences",
    make=make,
    positions=("IO", "S1", "S2", "END"),
    sweep=("IO", "IO+1", "S1", "S1+1", "S2", "END"),
    options={"order": "both", "corruption": "all", "template": -1, "begin": "auto"},
)
