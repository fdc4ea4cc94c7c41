"""The settings of a training, each with its default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...autoencoders.sae import SAEConfig
from ...errors import CircuitryError, no_effect, suggest
from ...html.shown import Shown
from .objectives import OBJECTIVES
from .objectives.objective import Objective

DECODERS = ("weighted", "fixed", "free")
REVIVALS = (None, "resample", "auxiliary")
PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": {"clip": None}}
"""Recipes by name: the settings in which they differ from the defaults. The paper mentions no clipping."""

FRACTIONS = ("penalty_warmup", "warmup", "decay")
"""Settings that are fractions of the steps."""
WEIGHTS = ("l1", "l0_penalty", "auxiliary")
"""Settings that are weights in the loss, which may be 0. All other numbers must be more than 0."""


@dataclass(frozen=True)
class Recipe(Shown):
    """How SAEs are trained. The paper gives the initialisation, Adam and its learning rate; it leaves the other settings open.

    The loss of a token is ‖x - x̂‖² and what the kind adds. ``normalise`` sets the units of x. Where the paper leaves a setting
    open, its comment says so.
    """

    kind: str = "relu"
    """relu: with the penalty l1 · Σ f‖d‖, where d is a feature's direction, as in the paper. topk: each token keeps its k
    greatest features (Gao et al. 2024). batchtopk: a batch keeps k a token on average; the trained SAE is a jumprelu with one
    threshold (Bussmann et al. 2024). jumprelu: each feature learns a threshold, with the penalty l0_penalty · number of features
    that fire (Rajamanoharan et al. 2024). matryoshka: a batchtopk whose first features must also reconstruct alone (Bussmann et
    al. 2025)."""
    features: int | None = None
    """How many features; by default ``expansion`` times the node's width."""
    expansion: int = 32
    """The paper's."""
    tokens: int = 2_000_000
    """Activations to train on; a text with fewer is repeated. Open in the paper."""
    lr: float = 8e-4
    """Adam's learning rate; betas 0.9 and 0.999 and epsilon 1e-8 are the paper's too."""
    l1: float = 2.0
    """Weight of the L1 penalty, for relu. Open in the paper."""
    l0_penalty: float = 1.0
    """Weight of the penalty on the number of features that fire, for jumprelu."""
    penalty_warmup: float = 0.05
    """Fraction of the steps over which the penalty rises from 0. Open in the paper."""
    k: int = 32
    """Features a token keeps, for topk; for batchtopk and matryoshka on average."""
    bandwidth: float = 1.0
    """Width of the slope that stands for the step at a jumprelu's threshold when thresholds learn, as a multiple of the norm that
    directions have at first: the standard deviation of a feature before the activation function."""
    prefixes: int = 5
    """How many nested dictionaries of a matryoshka reconstruct; each has half the features of the next."""
    decoder: str | None = None
    """weighted: the penalty is on f times its direction's norm, as in the authors' public code; fixed: directions keep the norm
    they start with; free: neither, so that the penalty can be evaded by long directions. Open in the paper; by default weighted
    for relu and fixed for the other kinds."""
    normalise: bool = True
    """Divide activations by one number so that their mean norm is √D while training; the trained SAE takes them undivided. Open in
    the paper."""
    measured: int = 16_384
    """Number of tokens, the first ones, on which the mean norm is measured."""
    warmup: float = 0.0
    """Fraction of the steps over which the learning rate rises from 0. Open in the paper."""
    decay: float = 0.2
    """Fraction of the steps, at the end, over which the learning rate falls to 0. Open in the paper."""
    clip: float | None = 1.0
    """Greatest norm of the gradient over all parameters of one SAE, as in SAELens; None: no clipping, as in the paper."""
    dead_after: int = 100_000
    """A feature that has not fired in this many tokens is called dead."""
    revive: str | None = None
    """How dead features are revived: None, resample (Bricken et al. 2023) or, for the kinds with k, auxiliary (a loss, Gao et al.
    2024)."""
    resample_every: int = 250_000
    """Tokens between resamplings of dead features, which end when the learning rate begins to fall."""
    auxiliary: float = 1 / 32
    """Weight of the auxiliary loss, if there is one."""

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check_type(setting.name, getattr(self, setting.name), str(setting.type))
        _check_choice("kind", self.kind, tuple(OBJECTIVES))
        _check_choice("decoder", self.decoder, (None, *DECODERS))
        _check_choice("revive", self.revive, REVIVALS)
        if self.revive == "auxiliary" and "auxiliary" not in self.objective.reads:
            raise CircuitryError(
                f"the auxiliary loss is for {_either(_reading('auxiliary'))}: a dead {self.kind} feature is below its threshold "
                "everywhere and learns nothing from it; use revive='resample'"
            )
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name in FRACTIONS and not 0 <= value <= 1:
                raise CircuitryError(f"{name} is {value}; it is a fraction of the steps, from 0 to 1")
            if number and value <= 0 and name not in (*FRACTIONS, *WEIGHTS):
                raise CircuitryError(f"{name} is {value}; it must be more than 0")

    @classmethod
    def of(cls, preset: str | None = None, /, **settings: Any) -> Recipe:
        """A recipe from settings by name, the rest as in ``preset`` ("paper"), or by default. Raises CircuitryError for an unknown name.

        >>> Recipe.of("paper", l1=3.0).clip, Recipe.of("paper", clip=0.5).clip, Recipe.of().clip
        (None, 0.5, 1.0)
        """
        if preset is not None and preset not in PRESETS:
            raise CircuitryError(f"unknown recipe {preset!r}; {suggest(preset, PRESETS)}")
        names = {field.name for field in fields(cls)}
        for name in settings:
            if name not in names:
                raise CircuitryError(f"training an SAE has no setting {name!r}; {suggest(name, names)}")
        # Numbers of numpy become Python's, since the recipe goes into JSON and its types are checked.
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in settings.items()}
        recipe = cls(**{**PRESETS.get(preset or "", {}), **plain})
        for name, (why, instead) in recipe._idle().items():
            if settings.get(name) is not None:
                raise no_effect(name, settings[name], why, instead)
        return recipe

    def _idle(self) -> dict[str, tuple[str, str]]:
        """Settings that have no effect together with the others, each with the reason and what to do."""
        idle: dict[str, tuple[str, str]] = {}
        for name in {name for objective in OBJECTIVES.values() for name in objective.reads} - {*self.objective.reads}:
            kinds = _either(repr(kind) for kind in _reading(name))
            idle[name] = f"kind {self.kind!r} does not use it", f"use kind={kinds}, or leave {name} out"
        if self.revive != "resample":
            idle["resample_every"] = "nothing is resampled", "use revive='resample', or leave resample_every out"
        if self.revive != "auxiliary" and "auxiliary" not in idle:
            idle["auxiliary"] = "the loss has no auxiliary part", "use revive='auxiliary', or leave auxiliary out"
        if self.features is not None:
            idle["expansion"] = f"features={self.features} says how many there are", "leave one of the two out"
        if not self.normalise:
            idle["measured"] = "nothing is normalised", "use normalise=True, or leave measured out"
        return idle

    def config(
        self, width: int, provenance: Mapping[str, Any], target: str | None = None, target_width: int | None = None
    ) -> SAEConfig:
        """The config of an SAE in training for a node of this width, or of a transcoder to a target."""
        features, function = self.features or self.expansion * width, self.objective.function
        if features >> (self.prefixes - 1) == 0 and "prefixes" in self.objective.reads:
            raise CircuitryError(f"{features} features cannot be halved {self.prefixes - 1} times; use fewer prefixes")
        return SAEConfig(
            width, features, function, self.k if function == "topk" else None, False, provenance, target, target_width
        )

    @property
    def objective(self) -> type[Objective]:
        """What an SAE of this kind learns."""
        return OBJECTIVES[self.kind]

    @property
    def bound(self) -> str:
        """What keeps directions from growing: weighted, fixed or free."""
        return self.decoder or self.objective.decoder

    def rate(self, done: float) -> float:
        """The learning rate after the fraction ``done`` of the steps."""
        rising = min(1.0, done / self.warmup) if self.warmup else 1.0
        return self.lr * rising * (min(1.0, (1 - done) / self.decay) if self.decay else 1.0)

    def rise(self, done: float) -> float:
        """The part of a penalty's weight that counts after the fraction ``done`` of the steps, from 0 to 1."""
        return min(1.0, done / self.penalty_warmup) if self.penalty_warmup else 1.0


def _reading(setting: str) -> list[str]:
    """The kinds that read a setting."""
    return [name for name, objective in OBJECTIVES.items() if setting in objective.reads]


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
}


def _check_type(name: str, value: object, wanted: str) -> None:
    """Refuse a value that has none of a field's types, written as "int | None"."""
    words = wanted.split(" | ")
    # A bool is an int to isinstance, but k=True is a mistake.
    fits = any(isinstance(value, _TYPES[word]) and (word == "bool") == isinstance(value, bool) for word in words)
    if not fits:
        names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "None": "none"}
        raise CircuitryError(f"{name} is {value!r}; it must be {' or '.join(names[word] for word in words)}")


def _check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        hint = suggest(str(value), [choice for choice in choices if choice])
        raise CircuitryError(f"unknown {name} of an SAE's training: {value!r}; {hint}")
