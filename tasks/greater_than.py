"""Greater-than: "The war lasted from the year 1743 to the year 17" continues with a later year (Hanna et al. 2023).

The tokenizer decides what the answer is. If the last two digits of a year are one token (GPT-2), it is a number greater than YY;
if every digit is a token (SmolLM2, Llama 2, Qwen), it is a digit greater than that of the decade. The number in the prompt is
neither right nor wrong: with single digits both "1743 to 1749" and "1743 to 1741" continue with 4. ``answer`` is the smallest
number that is certainly right, one more than that in the prompt, and ``foil`` the largest that is certainly wrong, one less. The
logit difference thus compares the two numbers at the edge. The metric "probability_difference" sums over all numbers: the
probability from the answer upwards minus the probability up to the foil. In the corrupted prompt YY is 01 (a single digit 0),
after which the foil is right too.

``century`` is the first half of both years. ``begin``: the tokens before the text. No prompt occurs twice.
"""

import itertools

from circuitry.errors import TaskError, expected
from circuitry.prompting import Example, TaskDefinition, stack

NOUNS = """war siege project campaign trial marriage expedition study conflict voyage strike drought plague famine debate contract
treaty reform mission rebellion dispute education crisis journey construction occupation tour friendship investigation reign
""".split()  # noqa: SIM905
WORDING = "The {noun} lasted from the year {start} to the year {century}"
STEM = "from the year 1742 to the year {century}"
UNITS, CENTURIES = range(10), range(11, 20)


def make(vocabulary, rng, *, examples, century, begin):
    if century not in CENTURIES:
        raise TaskError(expected("the first two digits of a year, 11 to 19, as century", century))
    numbers = _numbers(vocabulary, century)
    lowest = 1 if len(numbers) > 10 else 0
    starts = [n for n in numbers if {lowest, n - 1, n + 1} <= numbers.keys() and n - 1 > lowest]
    units = ("",) if len(numbers) > 10 else UNITS
    cases = list(itertools.product(NOUNS, starts, units))
    if examples > len(cases):
        raise TaskError(f"examples must be at most {len(cases)} for this model, so that no prompt repeats, got {examples}")
    chosen = [cases[k] for k in rng.permutation(len(cases))[:examples]]
    return stack([_example(vocabulary, numbers, lowest, century, *case) for case in chosen], ("YEAR",), vocabulary, begin)


def probability_difference(vocabulary):
    """A metric: the probability of the numbers that are certainly right minus that of the numbers that are certainly wrong."""
    numbers = {n: token for century in CENTURIES for n, token in _numbers(vocabulary, century).items()}  # 1700 may be one token
    tokens = [numbers[n] for n in sorted(numbers)]

    def measure(logits, answer, foil):
        candidates = answer.new_tensor(tokens)
        rank = answer.new_tensor(range(len(tokens)))
        answer_rank, foil_rank = ((token[:, None] == candidates).int().argmax(-1, keepdim=True) for token in (answer, foil))
        probabilities = logits.softmax(-1)[:, candidates]
        return (probabilities * (rank >= answer_rank)).sum(-1) - (probabilities * (rank <= foil_rank)).sum(-1)

    return measure


def _numbers(vocabulary, century):
    """The tokens of numbers after the century: 0 to 99 if two digits are one token, otherwise 0 to 9."""
    if vocabulary.tokenizer is None:
        raise TaskError("years need text, and the model was loaded without a tokenizer; give circuitry.load a tokenizer")
    pairs = _following(vocabulary, century, [f"{n:02d}" for n in range(100)])
    if len(pairs) > 50:
        return pairs
    digits = _following(vocabulary, century, [str(n) for n in range(10)])
    if len(digits) < 10:
        raise TaskError(
            "this model's tokenizer reads a year neither as two halves nor digit by digit, so no token is its second half"
        )
    return digits


def _following(vocabulary, century, texts):
    """By index, the tokens of those texts that are one token after the century."""
    stem = STEM.format(century=century)
    before, special = vocabulary.encode(stem), set(vocabulary.tokenizer.all_special_ids)
    read = {number: vocabulary.encode(stem + text) for number, text in enumerate(texts)}
    return {number: ids[-1] for number, ids in read.items() if ids[:-1] == before and ids[-1] not in special}


def _example(vocabulary, numbers, lowest, century, noun, number, unit):
    text = f"{number}{unit}" if unit != "" else f"{number:02d}"
    prompt = WORDING.format(noun=noun, start=f"{century}{text}", century=century)
    clean = vocabulary.encode(prompt)
    before = vocabulary.encode(prompt.partition(f"{century}{text}")[0] + str(century))
    # The token after the century must be the same within the prompt as after it, or the corrupted prompt would not be a year.
    if clean[: len(before) + 1] != [*before, numbers[number]]:
        raise TaskError(f"this model's tokenizer reads the year {century}{text} in two ways, so no token is its second half")
    corrupted = list(clean)
    corrupted[len(before)] = numbers[lowest]
    return Example(clean, corrupted, numbers[number + 1], numbers[number - 1], {"YEAR": len(before)})


TASK = TaskDefinition(
    name="greater_than",
    description="The war lasted from the year 17[YEAR] to the year 17 -> a later one",
    make=make,
    positions=("YEAR", "END"),
    sweep=("YEAR", "YEAR+1", "END"),
    options={"century": 17, "begin": "auto"},
    copied=False,
    metrics={"probability_difference": probability_difference},
)
