"""The plan of the experiment: which models are compared, on which nodes and how much text. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ...errors import CircuitryError, expected, no_effect, suggest
from ...features.activations.corpus import tokenizer_digest
from ...features.matching.hidden import POST_SILU
from ...features.sae.recipe import Recipe
from ...models.model import Model
from ...paths.values import Node
from ...suites.folder import plain
from .result import ARCHITECTURE, MODEL_SEED, SAE_SEED

RECIPE = "paper"
"""SAEs are trained with this recipe: the experiment repeats the paper's, and its published numbers were made with it."""


@dataclass(frozen=True)
class Dictionary:
    """The SAEs of one model, trained with one seed. ``name`` is the name of their folders."""

    model: Model
    seed: int
    name: str


@dataclass(frozen=True)
class Settings:
    """The amount of text, and the training of the SAEs.

    ``tokens`` are used to train SAEs (a shorter text is repeated), ``match_tokens``, from other documents, to compare features.
    ``post_silu`` says which activations of a Mamba are its neurons, "scan" or "gate" (``mppc_neurons``).
    ``stored_dtype`` is that of feature activations in files: float16, or float32 if they are too large for it. ``recipe`` goes to
    ``train_sae``.
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
    post_silu: str = "scan"
    stored_dtype: str = "float16"
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Settings by name, those of the recipe included. Raises CircuitryError for an unknown name.

        >>> Settings.of(tokens=5, l1=3.0).recipe
        {'l1': 3.0}
        """
        names, of_recipe = ({field.name for field in fields(kind)} - {"recipe"} for kind in (cls, Recipe))
        for name in given:
            if name not in names | of_recipe:
                raise CircuitryError(f"the experiment has no setting {name!r}; {suggest(name, names | of_recipe)}")
        recipe = {name: value for name, value in given.items() if name not in names}
        # A bad recipe is refused now, not when training starts.
        Recipe.of(RECIPE, **recipe, **{name: value for name, value in given.items() if name == "expansion"})
        if given.get("post_silu", "scan") not in POST_SILU:
            raise CircuitryError(expected(f"post_silu to be {' or '.join(POST_SILU)}", given["post_silu"]))
        if not given.get("neurons", True) and "post_silu" in given:
            raise no_effect("post_silu", given["post_silu"], "neurons are not matched", "leave it out, or match neurons")
        return cls(**{name: value for name, value in given.items() if name in names}, recipe=recipe)


def sites(model: Model, family: str) -> list[Node]:
    """The nodes whose features are compared: all nodes of a family; of the stream only those after a block (section 4.2.1).

    >>> import circuitry as ct
    >>> [str(node) for node in sites(ct.load("bundled:mamba"), "resid")]
    ['resid[1]', 'resid[2]', 'resid[3]', 'resid[4]']
    """
    return [node for node in model.graph.nodes(family) if node.family != "resid" or node.indices != (0,)]


def dictionaries(models: Sequence[Model], variant: Model | None, seed: int) -> dict[str, Dictionary]:
    """Every set of SAEs to train, by the comparison that needs it; "" is that of the first model.

    Raises CircuitryError if a model would be compared with itself, or models have different tokenizers.

    >>> import circuitry as ct
    >>> pair = [ct.load("bundled:gpt_neox"), ct.load("bundled:mamba")]
    >>> {name: dictionary.name for name, dictionary in dictionaries(pair, None, 0).items()}
    {'': 'gpt_neox', 'architecture': 'mamba', 'SAE seed': 'gpt_neox-sae-seed'}
    """
    everyone = [*models, *([variant] if variant else [])]
    prints = [model.fingerprint for model in everyone]
    if twice := [model.name for model, weights in zip(everyone, prints, strict=True) if prints.count(weights) > 1]:
        raise CircuitryError(f"{' and '.join(twice)} have the same weights; every run compares two SAE seeds of a model already")
    for model in everyone:
        if model.tokenizer is None or tokenizer_digest(model.tokenizer) != tokenizer_digest(models[0].tokenizer):
            raise CircuitryError(
                f"{model.name} has another tokenizer than {models[0].name}, or none; compare models with one tokenizer"
            )
    first, second, *rest = models
    further = {f"{ARCHITECTURE}: {model.name}": model for model in rest}
    seeds = {MODEL_SEED: variant} if variant else {}
    sets = {name: Dictionary(model, seed, "") for name, model in {"": first, ARCHITECTURE: second, **further, **seeds}.items()}
    sets[SAE_SEED] = Dictionary(first, seed + 1, "")
    return {name: replace(dictionary, name=_folder(dictionary, seed, everyone)) for name, dictionary in sets.items()}


def _folder(dictionary: Dictionary, seed: int, everyone: Sequence[Model]) -> str:
    """A folder name that distinguishes models of the same name, and the two SAE seeds of a model."""
    name = plain(dictionary.model.name)
    if sum(plain(model.name) == name for model in everyone) > 1:
        name += f"-{dictionary.model.fingerprint[:8]}"
    return name if dictionary.seed == seed else f"{name}-sae-seed"
