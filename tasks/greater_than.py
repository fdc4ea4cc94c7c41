"""Greater-than: "The war lasted from the year 1743 to the year 17" goes on with a later year (Hanna et al. 2023).

How a tokenizer reads a year decides what the answer is. Where the last two digits are one token (GPT-2), it is a number after YY;
where every digit is one (SmolLM2, Llama 2, Qwen), a digit after the Y of the decade. The number itself is left out: with single
digits both "1743 to 1749" and "1743 to 1741" go on with 4. ``answer`` is the least number that is surely right, one more than the
one in the prompt, ``foil`` the greatest that is surely wrong, one less; so the logit difference is asked at the edge, and the metric
"probability_difference" sums over all: the probability of everything from the answer up less that of everything up to the foil.
Corrupted, YY is 01 (a single digit 0), after which the foil is right as well.

``century`` is the first half of both years, ``begin`` says what comes before the text. No prompt comes twice.
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
    every = list(itertools.product(NOUNS, starts, units))
    if examples > len(every):
        raise TaskError(f"examples must be at most {len(every)} for this model, so that no prompt repeats, got {examples}")
    chosen = [every[k] for k in rng.permutation(len(every))[:examples]]
    return stack([_example(vocabulary, numbers, lowest, century, *one) for one in chosen], ("YEAR",), vocabulary, begin)


def probability_difference(vocabulary):
    """A metric: the probability of numbers that are surely right less that of numbers that are surely wrong."""
    numbers = {n: token for century in CENTURIES for n, token in _numbers(vocabulary, century).items()}  # 1700 may be one token
    tokens = [numbers[n] for n in sorted(numbers)]

    def measure(logits, answer, foil):
        known = answer.new_tensor(tokens)
        order = answer.new_tensor(range(len(tokens)))
        least, most = ((token[:, None] == known).int().argmax(-1, keepdim=True) for token in (answer, foil))
        probabilities = logits.softmax(-1)[:, known]
        return (probabilities * (order >= least)).sum(-1) - (probabilities * (order <= most)).sum(-1)

    return measure


def _numbers(vocabulary, century):
    """Tokens by number that may follow the century: 0 to 99 where two digits are one token, else 0 to 9."""
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
    """Of these texts those that are one token after the century, and read so in a year as well."""
    stem = STEM.format(century=century)
    before, special = vocabulary.encode(stem), set(vocabulary.tokenizer.all_special_ids)
    read = {number: vocabulary.encode(stem + text) for number, text in enumerate(texts)}
    return {number: ids[-1] for number, ids in read.items() if ids[:-1] == before and ids[-1] not in special}


def _example(vocabulary, numbers, lowest, century, noun, number, unit):
    text = f"{number}{unit}" if unit != "" else f"{number:02d}"
    whole = WORDING.format(noun=noun, start=f"{century}{text}", century=century)
    clean = vocabulary.encode(whole)
    before = vocabulary.encode(whole.partition(f"{century}{text}")[0] + str(century))
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
