"""What ``circuitry doctor`` finds out about this machine: packages, extras, devices, folders, and a test against a known circuit."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from .. import __version__
from ..errors import CircuitryError
from ..store.files import check_folder

PACKAGE = "circuitry-lm"
SHOWN = ("torch", "transformers", "nnsight", "huggingface_hub", "safetensors", "tokenizers", "numpy", "pandas", "matplotlib")
"""The packages whose versions are printed."""
PURPOSES = {
    "gguf": "reads .gguf files, and models in packages",
    "big": "spreads models that are larger than one device (--device-map)",
    "fast": "matches features several times faster; the numbers are the same without it",
    "datasets": "reads text by the name of a Hugging Face data set",
    "autointerp": "scores features with a model behind an OpenAI-compatible endpoint",
    "mamba-ssm": "compares with the authors' CUDA kernels; nothing in circuitry needs them",
    "docs": "builds the documentation",
    "dev": "tests circuitry itself",
}
"""What each extra is for."""
KERNELS = ("mamba_ssm", "causal_conv1d", "fla")
"""Packages of compiled kernels that transformers would use; circuitry computes scans and convolutions itself."""
MUCH, NOTHING = 1.0, 1e-3
"""Logits: in the model of the test, an effect is above the one or below the other."""


@dataclass(frozen=True)
class Extra:
    """An extra: what it is for, and what of it is missing or of another version than it should be."""

    name: str
    purpose: str
    missing: tuple[str, ...]

    def text(self) -> str:
        """One line."""
        state = "installed" if not self.missing else f"not installed (pip install '{PACKAGE}[{self.name}]')"
        return f"{self.name}: {self.purpose}; {state}"


@dataclass
class Examination:
    """``versions`` by package, ``extras``, ``devices`` in words, ``folders`` by use, ``kernels`` by package, and the ``test``'s outcome.

    ``problems`` are what keeps circuitry from working, each with what to do; ``notes`` are what could be better.
    """

    versions: dict[str, str | None]
    extras: list[Extra]
    devices: list[str]
    folders: dict[str, str]
    kernels: dict[str, str | None]
    test: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        extras = [{"name": e.name, "for": e.purpose, "installed": not e.missing, "missing": list(e.missing)} for e in self.extras]
        return {**vars(self), "extras": extras, "healthy": not self.problems}

    def text(self) -> str:
        """Everything in lines."""
        parts = {
            "versions": [f"{name} {version or 'is not installed'}" for name, version in self.versions.items()],
            "extras": [extra.text() for extra in self.extras],
            "devices": self.devices,
            "folders": [f"{use}: {place}" for use, place in self.folders.items()],
            "compiled kernels (not needed)": [
                f"{name} {version or 'is not installed'}" for name, version in self.kernels.items()
            ],
            "test": [self.test],
            "notes": self.notes,
            "problems": self.problems,
        }
        lines = [line for title, body in parts.items() if body for line in (title, *(f"  {one}" for one in body))]
        return "\n".join(
            [*lines, f"{len(self.problems)} to mend" if self.problems else "everything that circuitry needs is there"]
        )


def examine() -> Examination:
    """Look at everything. Raises nothing: what is wrong is in ``problems``.

    >>> examine().problems
    []
    """
    core, by_extra = requirements()
    problems = [wrong for need in core if (wrong := lacks(need))]
    extras = [Extra(name, PURPOSES.get(name, ""), tuple(filter(None, map(lacks, needs)))) for name, needs in by_extra.items()]
    found = Examination(_versions(), extras, [], _folders(), {name: _version(name) for name in KERNELS}, "", problems)
    try:
        check_folder(Path("runs"))
    except CircuitryError as error:
        found.problems.append(f"{error}; change to a folder of yours, or give --out")
    try:
        found.devices = list(_devices())
        found.notes += _advice(found)
        found.test = self_test()
    except Exception as error:  # whatever a broken installation raises is the finding
        found.test = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        found.problems.append(
            "the test failed; install circuitry again in a fresh environment, and if it still fails, report this output"
        )
    return found


def requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What circuitry needs, and what each extra adds, as its distribution says; nothing if it runs without being installed.

    >>> "gguf" in requirements()[1]
    True
    """
    try:
        every = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
        names = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return [], {}
    every = [need for need in every if need.name != PACKAGE]
    core = [need for need in every if need.marker is None or need.marker.evaluate({"extra": ""})]
    return core, {
        name: [need for need in every if need not in core and need.marker and need.marker.evaluate({"extra": name})]
        for name in names
    }


def lacks(need: Requirement) -> str:
    """What is wrong with a package that is needed, and how to mend it; empty if nothing is.

    >>> lacks(Requirement("numpy>=1")), lacks(Requirement("no-such-package>=2"))
    ('', "no-such-package is not installed: pip install 'no-such-package>=2'")
    """
    wanted = f"{need.name}{need.specifier}"
    if (version := _version(need.name)) is None:
        return f"{need.name} is not installed: pip install '{wanted}'"
    if not need.specifier.contains(version, prereleases=True):
        return f"{need.name} {version} is installed, and {need.specifier} is needed: pip install '{wanted}'"
    return ""


def self_test() -> str:
    """Patch every state of a compiled model at every position, and compare which matter with its truth. Raises CircuitryError if not equal.

    >>> self_test().startswith("passed: ")
    True
    """
    from ..compiled import truth
    from ..models.loading import load
    from ..patching.experiment import patch
    from ..prompting.task import task

    began, known = time.perf_counter(), truth("mamba")
    model, posed = load(known.model), task(known.task, distance=4, prefix=1, examples=2, corruption="B")
    named = posed.prompts(model.vocabulary).where
    where = {name: int(at[0]) for name, at in named.items()}
    table = patch(
        model, posed, "ssm_state[{layer}] @ {position} -> logits", axes={"position": list(range(where["END"] + 1))}, baseline=0
    )
    means = table.mean()
    effects = zip(means.index, means, strict=True)
    strong = {(f"ssm_state[{layer}]", int(at)) for (layer, at), effect in effects if abs(effect) > NOTHING}
    weak = [effect for effect in means if NOTHING < abs(effect) < MUCH]
    true = {site for site in known.sites("B", where) if site[0].startswith("ssm_state[") and "." not in site[0]}
    if strong != true or weak:
        raise CircuitryError(
            f"in {known.model} the states {sorted(strong)} have an effect; by construction {sorted(true)} have one"
        )
    took = time.perf_counter() - began
    states = f"{len(true)} of {len(means)} states"
    return f"passed: {states} of {known.model} have an effect, those that have one by construction ({took:.1f} s)"


def _versions() -> dict[str, str | None]:
    python = f"{platform.python_version()} ({sys.executable})"
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPU cores"
    return {"system": system, "python": python, "circuitry": __version__, **{name: _version(name) for name in SHOWN}}


def _version(name: str) -> str | None:
    """The version of a distribution; of a module without one, that it is there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version" if find_spec(name.replace("-", "_")) is not None else None


def _folders() -> dict[str, str]:
    from huggingface_hub import constants

    offline = " (HF_HUB_OFFLINE is set: nothing is downloaded)" if constants.HF_HUB_OFFLINE else ""
    return {
        "runs, unless --out names another folder": _room(Path("runs").resolve()),
        "models from the Hugging Face Hub": _room(Path(constants.HF_HUB_CACHE)) + offline,
        "circuitry itself": str(Path(__file__).parents[1]),
    }


def _room(folder: Path) -> str:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    return f"{folder} ({shutil.disk_usage(nearest).free / 2**30:.1f} GiB free)"


def _devices() -> Iterator[str]:
    import torch

    threads = os.environ.get("OMP_NUM_THREADS")
    used = torch.get_num_threads()
    yield f"cpu: {used} thread{'s' * (used != 1)}" + (f" (OMP_NUM_THREADS={threads})" if threads else "")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "mps: Apple's GPU"


def _advice(found: Examination) -> Iterator[str]:
    if shutil.which("nvidia-smi") and not any(device.startswith("cuda") for device in found.devices):
        yield "this machine has an NVIDIA driver, but torch sees no GPU: install the build of torch for CUDA (https://pytorch.org)"
    if not found.extras:
        yield f"{PACKAGE} is not installed as a package, so what it needs was not compared: pip install -e ."
