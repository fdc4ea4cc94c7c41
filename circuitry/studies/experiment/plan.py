"""What the experiment compares with what, on which nodes and which text. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ...errors import CircuitryError, suggest
from ...features.activations.corpus import tokenizer_digest
from ...features.sae.recipe import Recipe
from ...models.model import Model
from ...paths.values import Node
from ...suites.folder import plain
from .result import ARCHITECTURE, MODEL_SEED, SAE_SEED


@dataclass(frozen=True)
class Dictionary:
    """The SAEs of one model, trained with one seed. ``name`` is what its folders are called."""

    model: Model
    seed: int
    name: str


@dataclass(frozen=True)
class Settings:
    """How much text, and how the SAEs are trained.

    ``tokens`` are those that SAEs are trained on, over and over where the text has fewer, ``match_tokens`` those on which features are
    compared, of other documents. ``dtype`` is the type of feature activations in files: float16 or, where they are too large for
    that, float32. ``recipe`` goes to ``train_sae``.
    """

    tokens: int = 1_000_000
    match_tokens: int = 200_000
    context: int = 1024
    batch: int = 1024
    nodes: str = "resid"
    expansion: int = 8
    min_count: int = 10
    seed: int = 0
    neurons: bool = True
    dtype: str = "float16"
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Settings by name; a name that is not a field here is one of the recipe. Raises CircuitryError for a name that is neither.

        >>> Settings.of(tokens=5, l1=3.0).recipe
        {'l1': 3.0}
        """
        own, of_recipe = ({one.name for one in fields(kind)} - {"recipe"} for kind in (cls, Recipe))
        for name in given:
            if name not in own | of_recipe:
                raise CircuitryError(f"the experiment has no setting {name!r}; {suggest(name, own | of_recipe)}")
        recipe = {name: value for name, value in given.items() if name not in own}
        Recipe.of(**recipe, **{name: value for name, value in given.items() if name == "expansion"})
        return cls(**{name: value for name, value in given.items() if name in own}, recipe=recipe)


def sites(model: Model, family: str) -> list[Node]:
    """The nodes whose features are compared: all of a family, of the stream those after a block (section 4.2.1).

    >>> import circuitry as ct
    >>> [str(node) for node in sites(ct.load("bundled:mamba"), "resid")]
    ['resid[1]', 'resid[2]', 'resid[3]', 'resid[4]']
    """
    return [node for node in model.graph.nodes(family) if node.family != "resid" or node.indices != (0,)]


def dictionaries(models: Sequence[Model], variant: Model | None, seed: int) -> dict[str, Dictionary]:
    """Every set of SAEs that is trained, by the comparison that needs it; "" is the first model's own.

    Raises CircuitryError where a comparison would be of a model with itself, or of models with other tokens.

    >>> import circuitry as ct
    >>> pair = [ct.load("bundled:gpt_neox"), ct.load("bundled:mamba")]
    >>> {name: one.name for name, one in dictionaries(pair, None, 0).items()}
    {'': 'gpt_neox', 'architecture': 'mamba', 'SAE seed': 'gpt_neox-sae-seed'}
    """
    everyone = [*models, *([variant] if variant else [])]
    prints = [model.fingerprint for model in everyone]
    if twice := [model.name for model, own in zip(everyone, prints, strict=True) if prints.count(own) > 1]:
        raise CircuitryError(f"{' and '.join(twice)} have the same weights; every run compares two SAE seeds of a model already")
    for model in everyone:
        if model.tokenizer is None or tokenizer_digest(model.tokenizer) != tokenizer_digest(models[0].tokenizer):
            raise CircuitryError(
                f"{model.name} has another tokenizer than {models[0].name}, or none; compare models with one tokenizer"
            )
    first, second, *others = models
    further = {f"{ARCHITECTURE}: {model.name}": model for model in others}
    seeds = {MODEL_SEED: variant} if variant else {}
    made = {name: Dictionary(model, seed, "") for name, model in {"": first, ARCHITECTURE: second, **further, **seeds}.items()}
    made[SAE_SEED] = Dictionary(first, seed + 1, "")
    return {name: replace(one, name=_folder(one, seed, everyone)) for name, one in made.items()}


def _folder(one: Dictionary, seed: int, everyone: Sequence[Model]) -> str:
    """The model's name, and what tells it from another model of that name and its SAEs from those of the other seed."""
    name = plain(one.model.name)
    if sum(plain(model.name) == name for model in everyone) > 1:
        name += f"-{one.model.fingerprint[:8]}"
    return name if one.seed == seed else f"{name}-sae-seed"
