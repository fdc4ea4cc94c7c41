"""Train one bundled model: seeded, resumable, and it prints the figures of its model card.

python -m circuitry.training mamba --corpus corpus.txt.xz --work work/mamba
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from ..store.files import make_folder, write_whole
from . import sentences
from .data import Ids, Rows, Sentences, english_rows, induction_rows
from .evaluate import card, induction_accuracy
from .publish import publish
from .recipes import RECIPES, Curriculum, Stage
from .scan import fast_training
from .tokenizer import VOCABULARY, encode_corpus, read_corpus, train_tokenizer

IOI_LENGTH, LEAST_IOI_ROWS, ENGLISH_LENGTH, HELD_OUT_TOKENS = 64, 16, 128, 200_000
WARMUP, SAVE_EVERY, REPORT_EVERY = 50, 200, 100


class Trainer:
    """One run: all randomness comes from (seed, step), so a resumed run makes the same batches."""

    def __init__(self, name: str, seed: int, corpus: Path, work: Path) -> None:
        self.recipe: Curriculum = RECIPES[name]
        self.seed, self.work, self.step = seed, work, 0
        make_folder(work)
        torch.manual_seed(seed)
        self.model = self.recipe.build().train()
        self.optimizer = torch.optim.AdamW(self._groups(), self.recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        self.tokenizer, tokens = self._text(corpus)
        self.english, self.held_out = tokens[:-HELD_OUT_TOKENS], tokens[-HELD_OUT_TOKENS:]
        self.vocabulary: Ids = np.random.default_rng(0).permutation(np.arange(1, VOCABULARY))
        self.sentences = {
            random: Sentences(self.tokenizer, self.vocabulary, share) for random, share in ((False, 0.0), (True, 1.0))
        }
        self.mixed = Sentences(self.tokenizer, self.vocabulary)

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only, except Mamba's A, whose two dimensions hold decay rates."""
        named = list(self.model.named_parameters())
        decayed = [p for n, p in named if p.ndim == 2 and not n.endswith("A_log")]
        rest = [p for n, p in named if p.ndim != 2 or n.endswith("A_log")]
        return [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]

    def _text(self, corpus: Path) -> tuple[Tokenizer, NDArray[np.uint16]]:
        saved, cache = self.work.parent / "tokenizer.json", self.work.parent / "corpus.npy"
        # In the parent folder: all bundled models share one tokenizer, and so one tokenised corpus.
        if saved.exists() and cache.exists():
            return Tokenizer.from_file(str(saved)), np.load(cache, allow_pickle=False)
        text = read_corpus(corpus, 40)
        tokenizer = train_tokenizer(text[:8_000_000])
        tokens = encode_corpus(tokenizer, text)
        write_whole(cache, lambda new: _save_array(tokens, new))
        write_whole(saved, tokenizer.to_str(pretty=True))
        return tokenizer, tokens

    def _batches(self, stage: Stage) -> list[tuple[float, Rows, int]]:
        """(share of the loss, rows, number of tokens in the softmax) for each kind of data in a stage."""
        rng = np.random.default_rng([self.seed, self.step])
        share = 1 - stage.ioi - stage.english
        rows = max(1, round(stage.tokens * share / stage.length))
        batches = [(share, induction_rows(rng, rows, stage.length, self.vocabulary[: stage.words], stage.periodic), stage.words)]
        if stage.ioi:
            rows = max(LEAST_IOI_ROWS, round(stage.tokens * stage.ioi / IOI_LENGTH))
            maker = self.mixed if stage.english else self.sentences[False]
            batches.append((stage.ioi, maker.rows(rng, rows, IOI_LENGTH, sentences.TRAINING), VOCABULARY))
        if stage.english:
            rows = max(1, round(stage.tokens * stage.english / ENGLISH_LENGTH))
            batches.append((stage.english, english_rows(rng, rows, ENGLISH_LENGTH, self.english), VOCABULARY))
        return batches

    def _loss(self, rows: Rows, words: int) -> torch.Tensor:
        """Weighted cross-entropy; in a stage with few words the softmax is over those words only."""
        ids, weight = torch.from_numpy(rows.ids), torch.from_numpy(rows.weight)[:, 1:]
        logits = self.model(ids).logits[:, :-1]
        if words < VOCABULARY:
            allowed = torch.full((VOCABULARY,), -math.inf)
            allowed[torch.from_numpy(self.vocabulary[:words])] = 0
            logits = logits + allowed
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(weight)
        return (losses * weight).sum() / weight.sum()

    def update(self, stage: Stage, total: int) -> list[float]:
        """One optimizer step; returns the loss of each kind of data."""
        warm, done = min(1.0, (self.step + 1) / WARMUP), self.step / total
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * (0.55 + 0.45 * math.cos(math.pi * done))
        losses = []
        for share, rows, words in self._batches(stage):
            loss = self._loss(rows, words)
            (share * loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return losses

    def save(self) -> None:
        """Write model, optimizer and step into one file, whole or not at all."""
        tensors = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        write_whole(self.work / "checkpoint.safetensors", lambda file: save_file(tensors, file, {"step": str(self.step)}))

    def resume(self) -> None:
        path = self.work / "checkpoint.safetensors"
        if not path.exists():
            return
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        state = self.optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, field = key.split(".", 2)
                state["state"].setdefault(int(index), {})[field] = value  # empty before the first step
        self.optimizer.load_state_dict(state)
        self.step = int(min(s["step"] for s in state["state"].values()))

    def run(self) -> None:
        total = sum(stage.steps for stage in self.recipe.stages)
        plan = [stage for stage in self.recipe.stages for _ in range(stage.steps)]
        started = time.time()
        while self.step < total:
            stage = plan[self.step]
            losses = self.update(stage, total)
            if self.step % REPORT_EVERY == 0:
                self._report(stage, losses, time.time() - started)
            if self.step % SAVE_EVERY == 0 or self.step == total:
                self.save()

    def _report(self, stage: Stage, losses: list[float], seconds: float) -> None:
        rng = np.random.default_rng(1)
        words = self.vocabulary[: stage.words]
        distances = [d for d in (8, 32, 64, 128) if d + 7 <= len(words)]
        with torch.no_grad():
            seen = {d: round(induction_accuracy(self.model, words, d, 64, rng), 2) for d in distances}
        shown = " ".join(f"{loss:.3f}" for loss in losses)
        print(f"{self.step:6d} {seconds:6.0f} s  L{stage.length} V{stage.words}  losses {shown}  induction {seen}", flush=True)


def _save_array(array: NDArray[Any], file: Path) -> None:
    with file.open("wb") as out:  # given a name, numpy would add its own ending
        np.save(out, array)


def arguments() -> argparse.ArgumentParser:
    """What the command takes.

    >>> arguments().parse_args(["mamba", "--corpus", "english.txt.xz", "--work", "work/mamba"]).seed
    0
    """
    parser = argparse.ArgumentParser(prog="python -m circuitry.training", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--corpus", type=Path, required=True, help="plain English, .txt or .txt.xz")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint; a run there is resumed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the finished model here as a Hugging Face folder")
    return parser


def main() -> None:
    args = arguments().parse_args()
    torch.set_num_threads(args.threads)
    trainer = Trainer(args.model, args.seed, args.corpus, args.work)
    trainer.resume()
    with fast_training(args.model):
        trainer.run()
        figures = card(trainer.model, trainer.sentences, trainer.vocabulary, trainer.held_out)
    print(json.dumps(figures, indent=1))
    if args.out:
        publish(trainer.model, trainer.tokenizer, figures, args.out, args.model, args.seed, trainer.step)


if __name__ == "__main__":
    main()
