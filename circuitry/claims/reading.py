"""From a claims file to values. The keys of a claim are the tables below; any other key is refused with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CircuitryError
from ..planning.interventions import INTERVENTIONS
from ..planning.metrics import METRICS
from ..thresholds import LEVEL
from .kinds import KINDS
from .values import Bound, Claim, Claims, ModelName, Quantity, Seeds, Source, TaskName
from .yaml_reader import Entry, Read, entry_of

_FILES = (".py", ".csv", ".jsonl", ".json", ".gguf")
_DTYPES = ("float32", "float64", "bfloat16", "float16")
_CHOICES = ("metric", "direction", "intervention", "axes")
"""Keys that go to ``circuitry.patch``."""


def read(file: str | Path) -> Claims:
    """Read a claims file. Raises CircuitryError, with the line, for anything that a claims file does not have.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "claims.yaml"
    >>> _ = file.write_text("model: bundled:mamba\\ntask: induction\\nclaims: [{text: It does, accuracy: top-1, at_least: 0.9}]")
    >>> read(file).claims[0].bound
    Bound(at_least=0.9, at_most=None)
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CircuitryError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CircuitryError(f"{path} cannot be read: it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return parse_claims(text, path)


def parse_claims(text: str, file: str | Path = "claims") -> Claims:
    """Read the text of a claims file; files that it names are looked for beside ``file``.

    >>> parse_claims("claims: [{text: It does, at_leest: 1}]")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: claims, line 1: a claim has no key 'at_leest'; did you mean 'at_least'?
    """
    top, folder = entry_of(text, str(file)), Path(file).parent
    shared = {**_places(folder), **_OPTIONS, "confidence": _confidence}
    values = top.fields("a claims file", {**shared, "claims": _listed})
    if "claims" not in values:
        top.refuse("a claims file needs the key 'claims', with a list of claims")
    items, defaults = values.pop("claims"), values
    return Claims(tuple(_claim(item, defaults, folder) for item in items), Path(file))


def _listed(entry: Entry) -> list[Entry]:
    items = entry.items()
    if not items:
        entry.refuse("expected a list of claims, each after a dash; there are none")
    return items


def _places(folder: Path) -> dict[str, Read]:
    """The readers of what may be a file: a model or a task."""

    def model(entry: Entry) -> ModelName:
        return _model(entry, folder)

    def task(entry: Entry) -> TaskName:
        return _task(entry, folder)

    return {"model": model, "task": task}


def _beside(name: str, folder: Path) -> str:
    """A file's name as seen from here; other names stay as they are."""
    is_file = name.startswith(("./", "../")) or name.endswith(_FILES)
    return str(folder / name) if is_file else name


def _model(entry: Entry, folder: Path) -> ModelName:
    if isinstance(entry.value(), str):
        return ModelName(_beside(entry.text(), folder))
    readers: dict[str, Read] = {
        "name": Entry.text,
        "revision": Entry.text,
        "weights": Entry.text,
        "dtype": lambda e: e.among(*_DTYPES),
    }
    values = entry.fields("a model", readers)
    if "name" not in values:
        entry.refuse("a model needs the key 'name'")
    return ModelName(**{**values, "name": _beside(values["name"], folder)})


def _task(entry: Entry, folder: Path) -> TaskName:
    if isinstance(entry.value(), str):
        return TaskName(_beside(entry.text(), folder))
    readers: dict[str, Read] = {"name": Entry.text, "examples": lambda e: e.whole(1), "seed": Entry.whole}
    given = entry.mapping("a task")
    if "name" not in given:
        entry.refuse("a task needs the key 'name'; its other keys are examples, seed and the task's own options")
    known = {name: readers[name](value) for name, (_, value) in given.items() if name in readers}
    options = {name: value.value() for name, (_, value) in given.items() if name not in readers}
    return TaskName(**{**known, "name": _beside(known["name"], folder)}, options=options)


def _confidence(entry: Entry) -> float:
    number = entry.number()
    if not 0.5 <= number < 1:
        entry.refuse(f"confidence must be at least 0.5 and below 1, got {number:g}; 0.95 is usual")
    return number


def _by_axis(entry: Entry) -> dict[str, tuple[Any, ...]]:
    """Values by axis, each one value or a list."""
    values = {name: value.value() for name, (_, value) in entry.mapping("values of axes").items()}
    listed = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    for name, several in listed.items():
        if not several or not all(isinstance(one, int | str) and not isinstance(one, bool) for one in several):
            entry.refuse(f"expected numbers or names as values of {name!r}, got {values[name]!r}")
    return {name: tuple(several) for name, several in listed.items()}


def _bound(entry: Entry) -> Bound:
    values = entry.fields("a bound", _BOUNDS)
    return _checked(entry, Bound(**values))


def _checked(entry: Entry, bound: Bound) -> Bound:
    if bound.at_least is None and bound.at_most is None:
        entry.refuse("a bound is missing: expected at_least or at_most, with a number")
    if bound.at_least is not None and bound.at_most is not None and bound.at_least > bound.at_most:
        entry.refuse(f"no number is at least {bound.at_least:g} and at most {bound.at_most:g}")
    return bound


def _seeds(entry: Entry) -> Seeds:
    values = entry.fields("seeds", {"count": lambda e: e.whole(2), "holding": lambda e: e.whole(1)})
    if len(values) < 2:
        entry.refuse("seeds need the keys count and holding, such as {count: 10, holding: 9}")
    seeds = Seeds(**values)
    if seeds.holding > seeds.count:
        entry.refuse(f"of {seeds.count} seeds at most {seeds.count} can hold, got holding: {seeds.holding}")
    return seeds


def _source(entry: Entry) -> Source:
    values = entry.fields("a source", {"page": Entry.text, "quote": Entry.text})
    if len(values) < 2:
        entry.refuse("a source needs the keys page and quote")
    return Source(**values)


_BOUNDS: dict[str, Read] = {"at_least": Entry.number, "at_most": Entry.number}
_OPTIONS: dict[str, Read] = {
    "metric": lambda entry: entry.text() if entry.value() not in METRICS else str(entry.value()),
    "direction": lambda entry: entry.among("noising", "denoising"),
    "intervention": lambda entry: entry.among(*(name for name, one in INTERVENTIONS.items() if not one.needs_value)),
}
_KINDS: dict[str, Read] = {name: kind.read for name, kind in KINDS.items()}
_MEASURED: dict[str, Read] = {**_KINDS, **_OPTIONS, "axes": _by_axis, "cell": _by_axis}
"""What says which quantity is meant, beside model and task."""
_ABOUT: dict[str, Read] = {
    **_BOUNDS, "text": Entry.text, "others": _bound, "confidence": _confidence, "seeds": _seeds, "source": _source,
}  # fmt: skip


def _claim(entry: Entry, defaults: Mapping[str, Any], folder: Path) -> Claim:
    places = {**_places(folder), **_MEASURED}
    values = entry.fields("a claim", {**_ABOUT, **places, "minus": lambda e: (e, e.fields("minus", places))})
    if "text" not in values:
        entry.refuse("a claim needs the key 'text': the claim as a sentence")
    measured = {**defaults, **{name: value for name, value in values.items() if name in places}}
    quantity = _quantity(entry, measured, folder)
    minus = None
    if "minus" in values:
        place, changed = values["minus"]
        if not changed:
            place.refuse("minus needs at least one key that differs, such as cell, task or model")
        if any(name in KINDS for name in changed) and quantity.kind not in changed:
            place.refuse(f"the claim is about {quantity.kind}, so minus can only have the key {quantity.kind!r} too")
        minus = _quantity(place, {**measured, **changed}, folder)
    bound = _checked(entry, Bound(values.get("at_least"), values.get("at_most")))
    others = values.get("others")
    if others and (minus or not quantity.cell):
        entry.refuse("others are the cells beside those of 'cell', so they need a cell, and no minus")
    confidence = values.get("confidence", defaults.get("confidence", LEVEL))
    return Claim(
        values["text"], quantity, bound, minus, others, confidence, values.get("seeds"), values.get("source"), entry.line
    )


def _quantity(entry: Entry, values: Mapping[str, Any], folder: Path) -> Quantity:
    given = [name for name in KINDS if name in values]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        entry.refuse(f"a claim is about one of {', '.join(KINDS)}; this one has {found}")
    for name in ("model", "task"):
        if name not in values:
            entry.refuse(f"the {name} is missing; give it here, or for all claims at the top of the file")
    kind, what = given[0], values[given[0]]
    if not KINDS[kind].sweeps and (idle := [name for name in ("cell", "axes") if name in values]):
        entry.refuse(f"{idle[0]} chooses cells of a path's sweep, and {kind} is one number; leave {idle[0]} out")
    usable = _CHOICES if KINDS[kind].sweeps else ("metric", "direction", "intervention") if kind == "faithfulness" else ()
    options = {name: values[name] for name in usable if name in values}
    if "axes" in options:
        options["axes"] = {axis: list(several) for axis, several in options["axes"].items()}
    what = _beside(what, folder) if kind == "faithfulness" and isinstance(what, str) else what
    return Quantity(kind, what, values["model"], values["task"], values.get("cell", {}), options)
