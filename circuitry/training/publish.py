"""Writes a trained model as a Hugging Face folder, with a model card of the measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..store.files import write_whole
from . import sentences

_CARD = """# {name}

A small {architecture} model ({parameters:,} parameters, {layers} layers, float32) that ships with circuitry so that its first
command works offline. Trained from scratch ({steps} steps) by

    python -m circuitry.training {architecture} --seed {seed} --corpus english.txt.xz --work work/{architecture}

on three kinds of data: random-token induction, sentences in which one of two people acts again (indirect object
identification), and public-domain English. It is made to have small circuits that can be studied; it is not a useful language
model, knows nothing, and its English is poor.

Measured by the training script when it finished (256 prompts a line; held-out templates share neither opening nor action
with training):

| figure | value |
|---|---|
{rows}

The tokenizer is byte-level BPE with {vocabulary} tokens, shared by all bundled models, trained so that the names, places and
objects of the sentences are single tokens. Licence: Apache-2.0.
"""


def publish(
    model: Any, tokenizer: Tokenizer, figures: dict[str, float], folder: Path, architecture: str, seed: int, steps: int
) -> None:
    """Write config, weights (safetensors), tokenizer and README.md into ``folder``."""
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    end = {f"{kind}_token": sentences.END for kind in ("bos", "eos", "unk", "pad")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end).save_pretrained(folder)
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    text = _CARD.format(
        name=f"bundled:{folder.name}",
        architecture=architecture,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=model.config.num_hidden_layers,
        seed=seed,
        steps=steps,
        rows=rows,
        vocabulary=tokenizer.get_vocab_size(),
    )
    write_whole(folder / "README.md", text)
