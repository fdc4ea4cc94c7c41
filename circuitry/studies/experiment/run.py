"""The paper's experiment from models to pages: train, encode, match, score. Every step has its own folder, so a killed run resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import CircuitryError, expected, no_effect, several
from ...executing.distributed import current
from ...features.activations.corpus import Corpus, corpus
from ...features.activations.origin import folders
from ...features.activations.texts import Texts
from ...features.dashboard.proxy import ProxyScorer
from ...features.dashboard.score import Estimate
from ...features.dashboard.scorer import Scorer
from ...features.dashboard.source import Source
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
from ...progress import together
from ...store.files import slug, write_whole
from ...suites.folder import RunFolder, plain
from ...team import Team
from .plan import RECIPE, Dictionary, Settings, dictionaries, sites
from .result import ARCHITECTURE, MODEL_SEED, NEURONS, SAE_SEED, Compared, Universality

EVALUATED = 10_000
"""Tokens that autoencoders are evaluated on."""
SMALL = 50_000_000
"""Models with fewer parameters are called small on the page."""
Say = Callable[[str], None]


@together()
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
    """Match one model's SAE latents to those of other models: the paper's sections 4 and 5, in a folder below ``out``.

    Sparse autoencoders are trained on all models, on another seed of the first model, and a second time on the first model with
    another seed of their own. Features are matched by MPPC in both directions, on tokens that no autoencoder was trained on, and
    scored by a scorer.

    Args:
        models: names as for ``circuitry.load``, or loaded models: first the model whose features are matched, then those to match
            them with. All must have the same tokenizer.
        seed_variant: the first model trained with another seed, for skyline 1 and for the difference.
        texts: as for ``circuitry.activations``; None for the documentation of the running Python.
        scorer: scores features for figure 5; None for a proxy computed from activations, which every table and figure marks.
        scored: number of matches, over the whole range of MPPC, that are shown and scored.
        price, agree: before a scorer other than the proxy is asked, ``agree`` is called with the estimated cost at this ``price`` of
            a million tokens read and written; by default ``say`` reports it. An exception from it stops the run, which can resume.
        fresh: start in a new folder; else the same call resumes a killed run, and reads a complete one back.
        settings: fields of ``Settings``, or of the training recipe (``circuitry.features.sae.Recipe``).

    Within ``circuitry.executing.distributed.together``, the processes that torchrun started share training, passes of the models, files of
    feature activations and layer pairs; the first one asks the scorer and writes tables, figures and pages. All of them return
    the result, which does not depend on their number.

    Raises CircuitryError for fewer than two models, models with different tokenizers, unknown settings, and if another process
    has ended.

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
    loaded = [
        model if isinstance(model, Model) else load(model, dtype=dtype, device=device) for model in several("models", models)
    ]
    if len(loaded) < 2:
        raise CircuitryError(expected("at least two models to compare", len(loaded)))
    variant = seed_variant if isinstance(seed_variant, Model | None) else load(seed_variant, dtype=dtype, device=device)
    sets = dictionaries(loaded, variant, chosen.seed)
    text = current().once(lambda: _text(sets, chosen, texts, progress))
    record = _record(sets, chosen, text, scorer, scored, command)
    folder = RunFolder.open(Path(out), f"universality-{plain(loaded[0].name)}-{plain(loaded[1].name)}", record, fresh=fresh)
    if folder.complete:
        say(f"{folder.path} is complete; fresh=True (--fresh) would run it again in a new folder")
        return Universality.load(folder.path)
    asking = {"price": price, "agree": agree or (lambda estimate: say(estimate.text()))}
    with folder.held():
        run = _Run(folder, sets, chosen, scorer or ProxyScorer(), scored, asking, progress, say)
        return run.go(*_parts(text, chosen, folder))


def _text(sets: dict[str, Dictionary], settings: Settings, texts: Texts, progress: bool) -> Corpus:
    """All the text of a run, in documents that every model can read."""
    limits = [dictionary.model.positions or settings.context for dictionary in sets.values()]
    wanted, context = settings.match_tokens + settings.tokens, min(settings.context, *limits)
    return corpus(sets[""].model, texts, tokens=wanted, context=context, progress=progress)


def _parts(text: Corpus, settings: Settings, folder: RunFolder) -> tuple[Corpus, Corpus]:
    """The documents for matching features, and those for training autoencoders; both are also saved."""
    # Matching gets its tokens first, but never more than half of a short text.
    first, train = text.split(min(0.5, settings.match_tokens / text.tokens))
    match = first.take(settings.match_tokens)
    for name, part in (("match", match), ("train", train)) if folder.writes else ():
        part.save(folder.path / f"{name}.corpus.safetensors")
    return match, train


def _record(
    sets: dict[str, Dictionary], settings: Settings, text: Corpus, scorer: Scorer | None, scored: int, command: str
) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(settings).items() if name != "recipe"} | settings.recipe
    weights = {name: dictionary.model.fingerprint for name, dictionary in sets.items()}
    model = {name or "features of": f"{trained.model.name}, SAE seed {trained.seed}" for name, trained in sets.items()}
    return {
        "models": list(dict.fromkeys(dictionary.model.name for dictionary in sets.values())),
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
    """One call of ``experiment``, step by step. In a team, every process takes all steps, and does its part of each."""

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

    @property
    def team(self) -> Team:
        return self.folder.team

    def go(self, match: Corpus, train: Corpus) -> Universality:
        """Do all steps that are not done yet, and return the result."""
        trained = {name: self.train(dictionary, train) for name, dictionary in self.sets.items()}
        acts = self.encode(trained, match)
        compared = {name: self.match(name, acts[""], acts[name]) for name in self.sets if name}
        if self.settings.neurons:
            compared[NEURONS] = self.neurons(match)
        scores = self.team.once(lambda: self.look(compared, acts, trained, match).scores)
        result = Universality(compared, self.record(), self.quality(trained, match), scores)
        self.say("tables, figures and the page")
        if self.folder.writes:
            result.save(self.path)
        self.folder.finish()
        return result

    def record(self) -> dict[str, Any]:
        """The provenance of the run, with notes that a reader needs before the numbers."""
        small = [dictionary.model.name for dictionary in self.sets.values() if dictionary.model.parameters < SMALL]
        notes = [f"Small models ({', '.join(dict.fromkeys(small))}): their features say little of larger ones'."] if small else []
        if self.scorer.proxy:
            notes.append("Complexity and monosemanticity are a proxy computed from activations; no scorer read the text.")
        return self.folder.record | {"notes": notes, "folder": str(self.path)}

    def train(self, dictionary: Dictionary, text: Corpus) -> Trained:
        """The autoencoders of one model."""
        self.say(f"autoencoders of {dictionary.model.name}, seed {dictionary.seed}")
        size = {} if self.settings.recipe.get("features") else {"expansion": self.settings.expansion}
        recipe = {**size, "tokens": self.settings.tokens, **self.settings.recipe}
        nodes = sites(dictionary.model, self.settings.nodes)
        out = self.path / "saes" / dictionary.name
        return train_sae(
            dictionary.model,
            nodes,
            corpus=text,
            seed=dictionary.seed,
            out=out,
            batch=self.settings.batch,
            progress=self.progress,
            recipe=RECIPE,
            **recipe,
        )

    def encode(self, trained: Mapping[str, Trained], text: Corpus) -> dict[str, list[FeatureActs]]:
        """The feature activations of every model on the text for matching."""
        outs = {name: self.path / "features" / dictionary.name for name, dictionary in self.sets.items()}
        for number, (name, dictionary) in enumerate(self.sets.items()):
            self.say(f"features of {dictionary.model.name}, seed {dictionary.seed}")
            # A short text is a single file, so each model's first file belongs to another process.
            part = {"rank": (self.team.rank - number) % self.team.world_size, "world_size": self.team.world_size}
            stored = self.settings.stored_dtype
            encode(dictionary.model, trained[name], text, outs[name], stored_dtype=stored, progress=self.progress, **part)
        self.team.wait()
        return {name: [FeatureActs.open(path) for path in folders(trained[name], out).values()] for name, out in outs.items()}

    def match(self, name: str, a: list[FeatureActs], b: list[FeatureActs]) -> Compared:
        """One comparison, in both directions."""
        self.say(f"matching: {name}")
        matches = mppc(a, b, null="shift", **self.matching(name))
        return _compared(self.sets[""].model, self.sets[name].model, matches)

    def neurons(self, text: Corpus) -> Compared:
        """The baseline of section 4.3.1."""
        self.say("matching: neurons")
        a, b = self.sets[""].model, self.sets[ARCHITECTURE].model
        matches = mppc_neurons(a, None, b, None, text, post_silu=self.settings.post_silu, **self.matching(NEURONS))
        return _compared(a, b, matches)

    def matching(self, name: str) -> dict[str, Any]:
        """What all comparisons share; each process of a team computes some of the layer pairs."""
        part = {"rank": self.team.rank, "world_size": self.team.world_size}
        out = self.path / "matches" / slug(name)
        return {"min_count": self.settings.min_count, "out": out, "progress": self.progress, **part}

    def quality(self, trained: dict[str, Trained], text: Corpus) -> pd.DataFrame:
        """A row for every autoencoder. Each process of a team evaluates some of the models."""
        files = {name: self.path / "saes" / dictionary.name / "evaluation.parquet" for name, dictionary in self.sets.items()}
        for name in self.team.part(list(files)):
            if not files[name].exists():
                self.say(f"evaluation: {self.sets[name].name}")
                made = evaluate(self.sets[name].model, trained[name], text.take(EVALUATED), progress=self.progress)
                write_whole(files[name], made.to_parquet)
        self.team.wait()
        frames = [pd.read_parquet(file).assign(model=self.sets[name].name) for name, file in files.items()]
        table = pd.concat(frames, ignore_index=True)
        return table[["model", *(column for column in table if column != "model")]]

    def look(
        self,
        compared: Mapping[str, Compared],
        acts: Mapping[str, list[FeatureActs]],
        trained: Mapping[str, Trained],
        text: Corpus,
    ) -> Features:
        """Pages of matched features, and the scorer's scores of them."""
        self.say(f"matched features, and scores by {self.scorer.name}")
        main = compared[ARCHITECTURE]
        variants = {name: compared[name].forward for name in (SAE_SEED, MODEL_SEED) if name in compared}
        sides = acts[""], acts[ARCHITECTURE], text, self.sets[""].model.tokenizer
        options: dict[str, Any] = {
            "scorer": self.scorer,
            "variants": variants,
            "limit": self.scored,
            "names": (main.a, main.b),
            "sources": tuple(Source(self.sets[name].model, trained[name]) for name in ("", ARCHITECTURE)),
            **self.asking,
        }
        return study(main, *sides, self.path / "matched", **options, progress=self.progress)


def _compared(a: Model, b: Model, matches: Matches) -> Compared:
    depths = [np.array([layer["depth"] for layer in matches.provenance[side]]) for side in "ab"]
    return Compared(a.name, b.name, matches.forward, matches.reverse, *depths)
