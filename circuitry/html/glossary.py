"""The words of the pages that a newcomer does not know: what each means, for the pointer and for a line below the table where it stands."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from ..thresholds import SIGNIFICANT

MEANINGS = {
    "normalized effect": "an effect as a share of that of exchanging the whole prompt, which is 1 or 100\u00a0%",
    "whole effect": "the effect of exchanging the whole prompt: all that there is to explain",
    "q": f"the p value corrected for the number of cells in the table; below {SIGNIFICANT:g} an effect counts as found",
    "random nodes": "nodes of the same kind, drawn at random and patched in the same way: what an arbitrary node does",
    "faithfulness": "how much of the behaviour is left if only the circuit works, also called f: 1 is the whole model, 0 nothing",
    "complement": "the faithfulness of the model without the circuit: near 0 if nothing else does the same",
    "random circuits": "as many nodes or edges as the circuit has, drawn at random: the faithfulness that chance gives",
    "completeness": "whether the circuit lacks a part: if not, circuit and model change alike when the same part of the circuit is removed",
    "minimality": "whether every part of the circuit is needed: removing it changes more than any part from outside does",
    "corrupted": "the other prompt of a pair, in which some tokens are exchanged, so that its answer differs",
    "noising": "the clean prompt is run, and what is patched gets its value from the corrupted one",
    "denoising": "the corrupted prompt is run, and what is patched gets its value from the clean one",
    "resample": "what is patched gets the value that it has on the other prompt of the pair",
    "freezing": "the nodes named after it keep the values of the unpatched run, so that the effect cannot pass through them",
    "foil": "the wrong answer with which the right one is compared",
    "top-1 accuracy": "the share of prompts for which the right answer is the most probable next token",
    "attribution": "an estimate of an effect from gradients, for all parts of the model at once",
    "exact effect": "an effect that was measured by patching, one at a time",
    "Jaccard index": "of two sets, how many members they share, divided by how many are in either",
    "q, k, v": "queries, keys and values of attention heads",
    "[X']": "measured with pairs of prompts in which only the token X is exchanged",
    "B+1, END-1": "tokens counted from a named one: the one after B, the one before END",
    "END": "the last token of the prompt, after which the answer comes",
    "IO": "the indirect object: the name that is the answer",
    "S": "the subject, the name that the prompt repeats: S1 where it stands first, S2 where it stands again",
    "state": "what a layer of a state-space model carries from one token to the next",
    "scan input": "what a layer of a state-space model writes into its state",
    "convolution edge": "what the short convolution of a layer brings to a token from one that stands a few tokens (the lag) before",
    "induction head": "a head that finds where the current token stood before, and copies the token that followed it",
    "previous-token head": "a head that reads the token before",
    "name mover": "a head at END that raises the logit of IO",
    "S suppressor": "a head at END that lowers the logit of S",
}
"""By name, in the order of the lists."""

_SPELT = {
    "normalized effect": r"normalized(?: effects?)?",
    "q": r"q(?= <| below|$)",
    "random circuits": r"random (?:sets|circuits)",
    "exact effect": r"exact(?: effects?)?",
    "q, k, v": r"(?<=the )[qkv]|(?<=heads' )[qkv]|q, k or v",
    "[X']": r"\[[A-Z]+\d?'\]",
    "B+1, END-1": r"[A-Z]+\d?[+-]\d+",
    "END": r"END(?![+-]\d)",
    "IO": r"IO(?![+-]\d)",
    "S": r"S[12]?(?![+-]\d)(?! suppressor)",
    "state": r"states?",
    "scan input": r"scan inputs?",
    "convolution edge": r"convolution edges?",
    "induction head": r"induction heads?",
    "previous-token head": r"previous-token heads?",
    "name mover": r"name movers?",
    "S suppressor": r"S suppressors?",
}
"""How a term stands in texts, if not just as its name."""


def _pattern(name: str) -> str:
    """A term as a whole word, which may start a sentence; never a part of another name, such as that of a file or a model."""
    spelt = _SPELT.get(name, re.escape(name))
    capital = f"[{spelt[0].upper()}{spelt[0]}]{spelt[1:]}" if name.islower() and spelt[0].isalpha() and len(name) > 1 else spelt
    return rf"(?<![\w'/.:@+-])(?:{capital})(?!\w|-[a-z]|[/@+]|[.:]\w)"


_GROUPS = {f"term{number}": name for number, name in enumerate(MEANINGS)}
_ANY = re.compile("|".join(f"(?P<{group}>{_pattern(name)})" for group, name in _GROUPS.items()))
_NAMES = ("IO", "S")
_TASK = re.compile(r"\bioi\b|name mover|S suppressor")
"""What says that these names are those of the IOI task; another task may have a position S."""


def found(*texts: object) -> dict[str, str]:
    """The terms that stand in texts, or in the meaning of one that does, and what they mean.

    >>> list(found("completeness")), list(found("noising"))
    (['completeness'], ['corrupted', 'noising'])
    """
    names, unread = set[str](), list(map(str, texts))
    named = any(_TASK.search(text) for text in unread)
    while unread:
        text = unread.pop()
        new = {_GROUPS[str(match.lastgroup)] for match in _ANY.finditer(text) if _meant(match, named)} - names
        names |= new
        unread += [MEANINGS[name] for name in new]
    return {name: meaning for name, meaning in MEANINGS.items() if name in names}


def _meant(match: re.Match[str], named: bool) -> bool:
    """Whether a word is the term, in texts that say (``named``) that the task is IOI, or do not."""
    return named or _GROUPS[str(match.lastgroup)] not in _NAMES


def explained(text: object) -> Markup:
    """A text in which the pointer shows what a term means, where it stands first.

    >>> print(explained("<f>: complement"))
    &lt;f&gt;: <abbr title="the faithfulness of the model without the circuit: near 0 if nothing else does the same">complement</abbr>
    """
    written, parts, end, seen = str(text), list[Markup](), 0, set[str]()
    for match in _ANY.finditer(written):
        name = _GROUPS[str(match.lastgroup)]
        if name not in seen and _meant(match, bool(_TASK.search(written))):
            seen.add(name)
            parts += [escape(written[end : match.start()]), Markup('<abbr title="{}">{}</abbr>').format(MEANINGS[name], match[0])]
            end = match.end()
    return Markup("").join([*parts, escape(written[end:])])


class Defined:
    """The terms that a page has defined, so that each is defined once, below the first table or list where it stands.

    >>> page = Defined()
    >>> [list(page.new("minimality")), list(page.new("minimality, completeness"))]
    [['minimality'], ['completeness']]
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def new(self, *texts: object) -> dict[str, str]:
        """The terms of these texts that were not asked for before, and what they mean."""
        terms = {name: meaning for name, meaning in found(*texts).items() if name not in self._names}
        self._names |= terms.keys()
        return terms
