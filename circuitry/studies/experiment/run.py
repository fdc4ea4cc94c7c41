"""The paper's experiment from models to pages: train, encode, match, score. Every step has its own folder, so a killed run resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import CircuitryError, expected, no_effect
from ...features.activations.corpus import Corpus, corpus
from ...features.activations.texts import Texts
from ...features.dashboard.proxy import ProxyScorer
from ...features.dashboard.score import Estimate
from ...features.dashboard.scorer import Scorer
from ...features.dashboard.study import Features, study
from ...features.matching.encode import encode
from ...features.matching.matches import Matches
from ...features.matching.mppc import mppc
from ...features.matching.neurons import mppc_neurons
from ...features.matching.store import FeatureActs
from ...features.sae.evaluate import evaluate
from ...features.sae.train import train_sae
from ...features.sae.trained import Trained
from ...models.loading import load
from ...models.model import Model
from ...patching.provenance import versions
from ...store.files import slug, write_whole
from ...suites.folder import RunFolder, plain
from .plan import Dictionary, Settings, dictionaries, sites
from .result import ARCHITECTURE, MODEL_SEED, NEURONS, SAE_SEED, Compared, Universality

EVALUATED = 10_000
"""Tokens that autoencoders are evaluated on."""
SMALL = 50_000_000
"""Models with fewer parameters are called small on the page."""
Say = Callable[[str], None]


def experiment(
    models: Sequence[str | Model],
    *,
    seed_variant: str | Model | None = None,
    texts: Texts = None,
    out: str | PathLike[str] = "runs",
    scorer: Scorer | None = None,
    scored: int = 300,
    price: tuple[float, float] | None = None,
    agree: Callable[[Estimate], object] | None = None,
    fresh: bool = False,
    command: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    progress: bool = True,
    say: Say = lambda _: None,
    **settings: Any,
) -> Universality:
    """How much of a model's sparse features other models have: the paper's sections 4 and 5 in a folder below ``out``.

    Sparse autoencoders are trained on the first two models (and on any further ones), on another seed of the first, and once more
    on the first with another seed of their own. Features are matched by MPPC on tokens that no autoencoder was trained on, in both
    directions, and scored by a scorer.

    Args:
        models: names as for ``circuitry.load``, or loaded models: first the one whose features are looked for, then where. All must
            have the same tokenizer.
        seed_variant: the first model with another seed, for skyline 1 and for the difference.
        texts: as for ``circuitry.activations``; None for the documentation of the running Python.
        scorer: who scores features for figure 5; None for a proxy computed from activations, which is called that everywhere.
        scored: how many matches, over the whole range of MPPC, are shown and scored.
        price, agree: before a scorer other than the proxy is asked, ``agree`` is called with what its questions would cost at the
            ``price`` of a million tokens read and written; without it ``say`` is told. What it raises stops the run, which can go on.
        fresh: begin anew in a new folder; else the same call goes on where a killed run was, and a complete one is read back.
        settings: fields of ``Settings``, or of the training recipe (``circuitry.features.sae.Recipe``).

    Raises CircuitryError for fewer than two models, models with other tokenizers, and settings that are not known.

    >>> experiment(["bundled:mamba"])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected at least two models to compare, got 1
    """
    chosen = Settings.of(**settings)
    for name, value in (("price", price), ("agree", agree)):
        if scorer is None and value is not None:
            raise no_effect(
                name,
                ...,
                "no scorer is asked: scores are a proxy computed from activations",
                f"give scorer=, or leave {name} out",
            )
    loaded = [one if isinstance(one, Model) else load(one, dtype=dtype, device=device) for one in models]
    if len(loaded) < 2:
        raise CircuitryError(expected("at least two models to compare", len(loaded)))
    variant = seed_variant if isinstance(seed_variant, Model | None) else load(seed_variant, dtype=dtype, device=device)
    sets = dictionaries(loaded, variant, chosen.seed)
    text = _text(sets, chosen, texts, progress)
    record = _record(sets, chosen, text, scorer, scored, command)
    folder = RunFolder.open(Path(out), f"universality-{plain(loaded[0].name)}-{plain(loaded[1].name)}", record, fresh=fresh)
    if folder.complete:
        say(f"{folder.path} is complete; fresh=True (--fresh) would run it again in a new folder")
        return Universality.load(folder.path)
    asking = {"price": price, "agree": agree or (lambda told: say(told.text()))}
    with folder.held():
        run = _Run(folder, sets, chosen, scorer or ProxyScorer(), scored, asking, progress, say)
        return run.go(*_parts(text, chosen, folder.path))


def _text(sets: dict[str, Dictionary], settings: Settings, texts: Texts, progress: bool) -> Corpus:
    """All the text of a run, in documents that every model can read."""
    limits = [one.model.positions or settings.context for one in sets.values()]
    wanted, context = settings.match_tokens + settings.tokens, min(settings.context, *limits)
    return corpus(sets[""].model, texts, tokens=wanted, context=context, progress=progress)


def _parts(text: Corpus, settings: Settings, folder: Path) -> tuple[Corpus, Corpus]:
    """The documents on which features are matched, and those on which autoencoders are trained; also as files."""
    first, train = text.split(min(0.5, settings.match_tokens / text.tokens))
    match = first.take(settings.match_tokens)
    for name, part in (("match", match), ("train", train)):
        part.save(folder / f"{name}.corpus.safetensors")
    return match, train


def _record(
    sets: dict[str, Dictionary], settings: Settings, text: Corpus, scorer: Scorer | None, scored: int, command: str
) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(settings).items() if name != "recipe"} | settings.recipe
    weights = {name: one.model.fingerprint for name, one in sets.items()}
    model = {name or "features of": f"{one.model.name}, SAE seed {one.seed}" for name, one in sets.items()}
    return {
        "models": list(dict.fromkeys(one.model.name for one in sets.values())),
        **model,
        "text": text.source,
        **shown,
        "scorer": scorer.name if scorer else ProxyScorer().name,
        "scored": scored,
        "command": command,
        "versions": versions(),
        "identity": {
            "weights": weights,
            "text": text.digest,
            "settings": shown,
            "scorer": [getattr(scorer, "key", scorer.name) if scorer else "", scored],
            "versions": versions(),
        },
    }


@dataclass
class _Run:
    """One call of ``experiment``, step by step."""

    folder: RunFolder
    sets: dict[str, Dictionary]
    settings: Settings
    scorer: Scorer
    scored: int
    asking: Mapping[str, Any]
    progress: bool
    say: Say

    @property
    def path(self) -> Path:
        return self.folder.path

    def go(self, match: Corpus, train: Corpus) -> Universality:
        """Everything that is not there yet, and the result."""
        trained = {name: self.train(one, train) for name, one in self.sets.items()}
        acts = {name: self.encode(one, trained[name], match) for name, one in self.sets.items()}
        compared = {name: self.match(name, acts[""], acts[name]) for name in self.sets if name}
        if self.settings.neurons:
            compared[NEURONS] = self.neurons(match)
        scores = self.look(compared, acts, match).scores
        found = Universality(compared, self.record(), self.quality(trained, match), scores)
        self.say("tables, figures and the page")
        found.save(self.path)
        self.folder.finish()
        return found

    def record(self) -> dict[str, Any]:
        """How it was made, and what a reader must know before the numbers."""
        small = [one.model.name for one in self.sets.values() if one.model.parameters < SMALL]
        notes = [f"Small models ({', '.join(dict.fromkeys(small))}): their features say little of larger ones'."] if small else []
        if self.scorer.proxy:
            notes.append("Complexity and monosemanticity are a proxy computed from activations; no scorer read the text.")
        return self.folder.record | {"notes": notes, "folder": str(self.path)}

    def train(self, one: Dictionary, text: Corpus) -> Trained:
        """The autoencoders of one model."""
        self.say(f"autoencoders of {one.model.name}, seed {one.seed}")
        size = {} if self.settings.recipe.get("features") else {"expansion": self.settings.expansion}
        recipe = {**size, "tokens": self.settings.tokens, **self.settings.recipe}
        nodes = sites(one.model, self.settings.nodes)
        out = self.path / "saes" / one.name
        return train_sae(
            one.model, nodes, corpus=text, seed=one.seed, out=out, batch=self.settings.batch, progress=self.progress, **recipe
        )

    def encode(self, one: Dictionary, saes: Trained, text: Corpus) -> list[FeatureActs]:
        """What its features are on the text to match on."""
        self.say(f"features of {one.model.name}, seed {one.seed}")
        out, dtype = self.path / "features" / one.name, self.settings.dtype
        return encode(one.model, saes, text, out, dtype=dtype, progress=self.progress)

    def match(self, name: str, a: list[FeatureActs], b: list[FeatureActs]) -> Compared:
        """One comparison, in both directions."""
        self.say(f"matching: {name}")
        out = self.path / "matches" / slug(name)
        found = mppc(a, b, min_count=self.settings.min_count, null="shift", out=out, progress=self.progress)
        return _compared(self.sets[""].model, self.sets[name].model, found)

    def neurons(self, text: Corpus) -> Compared:
        """The baseline of section 4.3.1."""
        self.say("matching: neurons")
        a, b = self.sets[""].model, self.sets[ARCHITECTURE].model
        how: dict[str, Any] = {"min_count": self.settings.min_count, "progress": self.progress}
        found = mppc_neurons(a, None, b, None, text, out=self.path / "matches" / "neurons", **how)
        return _compared(a, b, found)

    def quality(self, trained: dict[str, Trained], text: Corpus) -> pd.DataFrame:
        """A row for every autoencoder."""
        frames = []
        for name, one in self.sets.items():
            file = self.path / "saes" / one.name / "evaluation.parquet"
            if not file.exists():
                self.say(f"evaluation: {one.name}")
                write_whole(file, evaluate(one.model, trained[name], text.take(EVALUATED), progress=self.progress).to_parquet)
            frames.append(pd.read_parquet(file).assign(model=one.name))
        whole = pd.concat(frames, ignore_index=True)
        return whole[["model", *(column for column in whole if column != "model")]]

    def look(self, compared: Mapping[str, Compared], acts: Mapping[str, list[FeatureActs]], text: Corpus) -> Features:
        """Pages of matched features, and the scorer's scores of them."""
        self.say(f"matched features, and scores by {self.scorer.name}")
        main = compared[ARCHITECTURE]
        variants = {name: compared[name].forward for name in (SAE_SEED, MODEL_SEED) if name in compared}
        sides = acts[""], acts[ARCHITECTURE], text, self.sets[""].model.tokenizer
        how: dict[str, Any] = {
            "scorer": self.scorer,
            "variants": variants,
            "limit": self.scored,
            "names": (main.a, main.b),
            **self.asking,
        }
        return study(main, *sides, self.path / "matched", **how, progress=self.progress)


def _compared(a: Model, b: Model, found: Matches) -> Compared:
    depths = [np.array([layer["depth"] for layer in found.provenance[side]]) for side in "ab"]
    return Compared(a.name, b.name, found.forward, found.reverse, *depths)
