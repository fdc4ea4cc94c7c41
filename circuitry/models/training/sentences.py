"""Names, places, objects and sentence templates of the indirect-object sentences the bundled models learn.

``{A}`` and ``{B}`` are the two people of the first clause, ``{S}`` the one of them who acts again, ``{C}`` a bystander. The
sentence stops where the other of the two (the indirect object) comes next. Places, objects and names are single tokens.
"""

from __future__ import annotations

import re

END = "<|endoftext|>"

NAMES = """Mary John Tom James Sarah Peter Alice Robert Laura David Emma Henry Anna George Lucy William Kate Charles Jane Paul
Helen Frank Ruth Edward Rose Arthur Clara Walter Ellen Albert Julia Louis Grace Simon Martha Philip Alan Susan Andrew Diana
Daniel Maria Michael Nancy Thomas Rachel Joseph Emily Samuel Sophie Martin Olivia Jack Amy Victor Eva Oscar Irene Hugo Nora
Leo Vera Max Ivan Dora Felix Linda Carl Julie Eric Mark Karen Adam Betty Brian Carol Dennis Edith Fred Gloria Harry Ida
Justin Lily Kevin Molly Luke Nina Oliver Paula Ralph Sally Scott Tina Steven Wendy""".split()

PLACES = """store park school garden office station hospital market church library kitchen beach museum river house farm
village bank castle hotel""".split()

OBJECTS = """drink book letter ring key ball flower computer coin apple hat gift map watch knife lamp box cake pen
basket""".split()

_OPENINGS = [
    "When {A} and {B} went to the {place},",
    "Then, {A} and {B} went to the {place}.",
    "After {A} and {B} came back from the {place},",
    "While {A} and {B} were at the {place},",
    "One day, {A} and {B} met near the {place}.",
    "Later that evening, {A} and {B} sat in the {place}.",
    "As soon as {A} and {B} found the {place},",
    "In the morning, {A} and {B} walked to the {place} together.",
    "Since {A} and {B} had been to the {place} before,",
    "Last week {A} and {B} stayed at the {place}.",
    "The friends {A} and {B} looked at the {place} for an hour.",
    "Once {A} and {B} were done with the {place},",
    "On Sunday, {A} and {B} opened the {place}.",
    "There was nobody but {A} and {B} in the {place}.",
    "Although {A} and {B} did not know the {place},",
    "If {A} and {B} ever see the {place} again,",
    "For many years {A} and {B} lived by the {place}.",
    "Today {A} and {B} had the {place} to themselves.",
    "Until {A} and {B} bought the {place},",
    "Between {A} and {B} there was only the {place}.",
]
_FILLERS = ["", "", " It was late.", " The day was cold and {C} was not there.", " Nothing had changed.", " They talked about {C}."]
_ACTIONS = [
    " {S} gave a {object} to",
    " {S} handed the {object} to",
    " {S} wanted to give a {object} to",
    " {S} decided to show the {object} to",
    " {S} sold an old {object} to",
    " {S} passed the {object} to",
    " {S} sent a new {object} to",
    " {S} had to take the {object} to",
    " {S} threw a small {object} to",
    " {S} wrote a letter and gave it to",
    " {S} smiled and spoke to",
    " {S} said something about the {object} to",
    " {S} lent his {object} to",
    " {S} tried to explain the {place} to",
    " {S} showed a {object} to",
    " {S} returned the {object} to",
    " {S} carried the heavy {object} over to",
    " {S} read the whole {object} to",
    " {S} promised the {object} to",
    " {S} left a broken {object} to",
    " {S} would never give the {object} to",
    " {S} quickly threw the {object} back to",
]
_HELD_OUT_OPENINGS = [
    "Yesterday, {A} and {B} were in the {place}.",
    "Before {A} and {B} left the {place},",
    "Because {A} and {B} liked the {place},",
]
_HELD_OUT_ACTIONS = [" {S} offered a {object} to", " {S} brought the old {object} to"]


def _join(openings: list[str], actions: list[str]) -> list[str]:
    """Every opening equally often, whether a sentence of its own (which a filler may follow) or a clause."""
    fillers = {".": _FILLERS, ",": [""] * len(_FILLERS)}
    return [o + f + a for o in openings for f in fillers[o[-1]] for a in actions]


TRAINING = _join(_OPENINGS, _ACTIONS)
HELD_OUT = _join(_HELD_OUT_OPENINGS, _HELD_OUT_ACTIONS)
"""Templates whose opening and action are both absent from training."""


def split_slots(template: str) -> list[str]:
    """Cut a template into plain text and the slots for people; a slot swallows the space before it.

    >>> split_slots("Then, {A} and {B} left. {S} gave")
    ['Then,', '{A}', ' and', '{B}', ' left.', '{S}', ' gave']
    """
    return [piece for piece in re.split(r" ?(\{[ABCS]\})", template) if piece]
