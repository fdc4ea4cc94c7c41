"""Every public name says what it does, and every public function shows it with an example that runs as a doctest."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import circuitry

NO_EXAMPLE = {
    # Commands: their examples are the command lines of the README, which tests/cli/test_cli.py runs.
    "circuitry.cli",
    # Scripts that train for hours: what they are made of is tested where it is used.
    "circuitry.training",
    # Readers of original checkpoints: tests/native/test_native.py writes such files.
    "circuitry.native",
    # The two halves of each shipped suite: circuitry.suites.induction and circuitry.suites.ioi have an example, tests run both.
    "circuitry.suites.induction_heads.run",
    "circuitry.suites.induction_states.run",
    "circuitry.suites.ioi_heads.run",
    "circuitry.suites.ioi_states.run",
}


def modules() -> Iterator[Any]:
    for info in pkgutil.walk_packages(circuitry.__path__, "circuitry."):
        if not info.name.endswith("__main__") and not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def public() -> Iterator[tuple[str, Any]]:
    """Functions, classes, and public methods and properties of classes, by full name, each where it is defined."""
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
                fields = getattr(value, "__dataclass_fields__", {})
                for method, member in vars(value).items():
                    if method in fields:
                        continue  # a field whose default is a function
                    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{module.__name__}.{name}.{method}", function
            elif inspect.isfunction(inspect.unwrap(value)):
                yield f"{module.__name__}.{name}", value


ALL = dict(public())


@pytest.mark.parametrize("name", ALL)
def test_public_names_are_documented(name: str) -> None:
    doc = inspect.getdoc(ALL[name])
    assert doc and not doc.startswith(name.rpartition(".")[2] + "("), f"{name} has no docstring of its own"


EXPORTED = {name for name in circuitry.__all__ if inspect.isfunction(getattr(circuitry, name))}


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_exported_functions_have_an_example(name: str) -> None:
    assert ">>>" in (getattr(circuitry, name).__doc__ or "")


def test_every_public_function_has_an_example() -> None:
    """Every public function of the library (methods aside) has a doctest, but for those NO_EXAMPLE gives a reason for."""
    plain = [n for n, v in ALL.items() if inspect.isfunction(v) and n.rpartition(".")[2][0].islower() and n.count(".") <= 3]
    bare = [n for n in plain if ">>>" not in (ALL[n].__doc__ or "") and not any(n.startswith(p) for p in NO_EXAMPLE)]
    assert not bare, bare
