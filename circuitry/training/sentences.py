"""Names, places, objects and sentence templates of the indirect-object sentences the bundled models learn.

``{A}`` and ``{B}`` are the two people of the first clause, ``{S}`` the one of them who acts again, ``{C}`` a bystander. The
sentence stops before the other of the two (the indirect object). Places, objects and names are single tokens.
"""

from __future__ import annotations

import re

END = "<|endoftext|>"

NAMES = [
    "Mary",
    "John",
    "Tom",
    "James",
    "Sarah",
    "Peter",
    "Alice",
    "Robert",
    "Laura",
    "David",
    "Emma",
    "Henry",
    "Anna",
    "George",
    "Lucy",
    "William",
    "Kate",
    "Charles",
    "Jane",
    "Paul",
    "Helen",
    "Frank",
    "Ruth",
    "Edward",
    "Rose",
    "Arthur",
    "Clara",
    "Walter",
    "Ellen",
    "Albert",
    "Julia",
    "Louis",
    "Grace",
    "Simon",
    "Martha",
    "Philip",
    "Alan",
    "Susan",
    "Andrew",
    "Diana",
    "Daniel",
    "Maria",
    "Michael",
    "Nancy",
    "Thomas",
    "Rachel",
    "Joseph",
    "Emily",
    "Samuel",
    "Sophie",
    "Martin",
    "Olivia",
    "Jack",
    "Amy",
    "Victor",
    "Eva",
    "Oscar",
    "Irene",
    "Hugo",
    "Nora",
    "Leo",
    "Vera",
    "Max",
    "Ivan",
    "Dora",
    "Felix",
    "Linda",
    "Carl",
    "Julie",
    "Eric",
    "Mark",
    "Karen",
    "Adam",
    "Betty",
    "Brian",
    "Carol",
    "Dennis",
    "Edith",
    "Fred",
    "Gloria",
    "Harry",
    "Ida",
    "Justin",
    "Lily",
    "Kevin",
    "Molly",
    "Luke",
    "Nina",
    "Oliver",
    "Paula",
    "Ralph",
    "Sally",
    "Scott",
    "Tina",
    "Steven",
    "Wendy",
]

PLACES = [
    "store",
    "park",
    "school",
    "garden",
    "office",
    "station",
    "hospital",
    "market",
    "church",
    "library",
    "kitchen",
    "beach",
    "museum",
    "river",
    "house",
    "farm",
    "village",
    "bank",
    "castle",
    "hotel",
]

OBJECTS = [
    "drink",
    "book",
    "letter",
    "ring",
    "key",
    "ball",
    "flower",
    "computer",
    "coin",
    "apple",
    "hat",
    "gift",
    "map",
    "watch",
    "knife",
    "lamp",
    "box",
    "cake",
    "pen",
    "basket",
]

# Many openings, so that a model learns the roles of the people and not the positions of words.
_CONJUNCTIONS = """When,After,While,As soon as,Since,Once,Although,If,Until,Now that,Though,Whenever,Unless,Even if,Just as,
By the time,In case,As,Where,So long as,Wherever,Considering that,Provided that,Supposing that,Whereas,Inasmuch as,
Notwithstanding that,Granted that,Until at last,Whenever else""".replace("\n", "").split(",")
_ADVERBS = """Then,One day,Later that evening,In the morning,Last week,On Sunday,Today,For a while,Once again,At first,Soon,
Afterwards,In the end,Every summer,That night,Meanwhile,Fortunately,Unexpectedly,Curiously enough,Nevertheless,
Occasionally,Yesterday afternoon,Somewhere abroad""".replace("\n", "").split(",")
_PHRASES = """went to,came back from,were at,met near,sat in,found,walked to,had been to,stayed at,looked at,were done with,opened,
had seen,ran past,heard of,thought about,lived by,bought,fell asleep in,waited behind,wrote about,got lost on the way to""".replace(
    "\n", ""
).split(",")
_OPENINGS = [f"{word} {{A}} and {{B}} {phrase} the {{place}}," for word in _CONJUNCTIONS for phrase in _PHRASES] + [
    f"{word}{comma} {{A}} and {{B}} {phrase} the {{place}}." for word in _ADVERBS for comma in ("", ",") for phrase in _PHRASES
]
_FILLERS = [
    "",
    "",
    " It was late.",
    " The day was cold and {C} was not there.",
    " Nothing had changed.",
    " They talked about {C}.",
]
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
    " {S} presented the {object} to",
    " {S} donated a {object} to",
    " {S} delivered a {object} to",
    " {S} recommended the {place} to",
    " {S} described the lost {object} to",
    " {S} tossed the {object} over to",
    " {S} forwarded a {object} to",
    " {S} dedicated the {object} to",
    " {S} bequeathed an expensive {object} to",
    " {S} whispered something to",
]
_HELD_OUT_OPENINGS = [
    "Yesterday, {A} and {B} were in the {place}.",
    "Before {A} and {B} left the {place},",
    "Because {A} and {B} liked the {place},",
]
_HELD_OUT_ACTIONS = [" {S} offered a {object} to", " {S} brought the old {object} to"]


def _join(openings: list[str], actions: list[str]) -> list[str]:
    """Every opening with every action; a filler may follow an opening that is a full sentence."""
    fillers = {".": _FILLERS, ",": [""] * len(_FILLERS)}  # repeated, so that clauses come as often as sentences
    return [o + f + a for o in openings for f in fillers[o[-1]] for a in actions]


TRAINING = _join(_OPENINGS, _ACTIONS)
HELD_OUT = _join(_HELD_OUT_OPENINGS, _HELD_OUT_ACTIONS)
"""Templates whose opening and action are both absent from training."""


def split_slots(template: str) -> list[str]:
    """Cut a template into plain text and slots for people; a slot includes the space before it.

    >>> split_slots("Then, {A} and {B} left. {S} gave")
    ['Then,', '{A}', ' and', '{B}', ' left.', '{S}', ' gave']
    """
    return [piece for piece in re.split(r" ?(\{[ABCS]\})", template) if piece]
