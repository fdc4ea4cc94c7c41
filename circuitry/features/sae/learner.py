"""One SAE in training: its loss, its optimizer, its statistics, and all of that state as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...autoencoders.sae import SAE, SAEConfig
from ...errors import CircuitryError
from .recipe import Recipe

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's, from appendix A of the paper."""


class Learner:
    """An SAE that learns from batches [token, D]. Inside, activations are multiplied by ``scale``; ``result`` undoes that.

    Batches of a transcoder have what it reads and then what it predicts, each multiplied by a scale of its own.
    """

    def __init__(self, config: SAEConfig, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.recipe, self.seed = recipe, seed
        self.sae = SAE(config, seed).to(device)
        self.objective = recipe.objective(recipe).to(device)
        self.objective.begin(self.sae)
        self.weights = dict(self.sae.named_parameters())
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True)
        self.scale, self.target_scale = torch.ones((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        self.tokens_since_fired = torch.zeros(config.features, dtype=torch.int64, device=device)
        """Tokens since each feature last fired."""
        self.meter = torch.zeros(5 + config.predicted, dtype=torch.float64, device=device)
        """Sums since the last report: tokens, losses, features that fired, squared errors, squares, and what is predicted itself."""

    def measure(self, batches: list[Tensor]) -> None:
        """Set the scale that makes the mean norm of these activations √D; of a transcoder also that of what it predicts."""
        if self.recipe.normalise:
            self.scale = _scale([batch[:, : self.sae.config.width] for batch in batches])
            if self.sae.config.transcodes:
                self.target_scale = _scale([batch[:, self.sae.config.width :] for batch in batches])

    def _scaled(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """What is read and what is predicted, scaled; they are the same tensor unless this is a transcoder."""
        batch, width = batch.to(self.tokens_since_fired.device, torch.float32), self.sae.config.width
        if not self.sae.config.transcodes:
            return (x := batch * float(self.scale)), x
        return batch[:, :width] * float(self.scale), batch[:, width:] * float(self.target_scale)

    def learn(self, batch: Tensor, step: int, steps: int) -> None:
        """One step of Adam on a batch [token, D]."""
        done = step / steps
        x, wanted = self._scaled(batch)
        before = self.sae.before(x)
        features = self.objective.activate(self.sae, before)
        error = wanted - self.sae.decode(features)
        squares = error.square().sum()
        added = self.objective.added(self.sae, wanted, before, features, done)
        loss = (squares + added + self._auxiliary(before, error.detach())) / len(x)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        fired = features.detach().sign().sum(0)
        self._update(done)
        self.objective.stepped(self.sae)
        self._count(wanted, loss.detach(), squares.detach(), fired)
        interval = max(1, self.recipe.resample_every // len(x))
        falling = self.recipe.decay > 0 and 1 - done <= self.recipe.decay  # too late for a new feature to learn
        if self.recipe.revive == "resample" and (step + 1) % interval == 0 and not falling:
            self._resample(x, error.detach(), step)

    def _auxiliary(self, before: Tensor, error: Tensor) -> Tensor | float:
        """Squared error with which the D/2 strongest dead features of each token reconstruct the error of the living ones."""
        dead = self.tokens_since_fired >= self.recipe.dead_after
        if self.recipe.revive != "auxiliary" or not (number := int(dead.sum())):
            return 0.0
        values, at = before[:, dead].topk(min(number, max(1, error.shape[1] // 2)), dim=1, sorted=False)
        revived = torch.zeros(len(before), number, device=before.device).scatter(1, at, values.relu())
        return self.recipe.auxiliary * (error - revived @ self.sae.W_dec[dead]).square().sum()

    @torch.no_grad()
    def _update(self, done: float) -> None:
        """Move the weights along the gradients."""
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        directions, fixed = self.sae.W_dec, self.recipe.bound == "fixed"
        if fixed:  # the norm is restored below, so a step along the direction would only disturb Adam's moments
            along = (gradients["W_dec"] * directions).sum(1, keepdim=True) / directions.square().sum(1, keepdim=True)
            gradients["W_dec"] -= along * directions
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self.recipe.clip)
        self.optimizer.param_groups[0]["lr"] = self.recipe.rate(done)
        self.optimizer.step()
        if fixed:
            directions.mul_(self.sae.config.norm / directions.norm(dim=1, keepdim=True))

    def _count(self, x: Tensor, loss: Tensor, squares: Tensor, fired: Tensor) -> None:
        means = torch.stack([torch.tensor(1.0, device=x.device), loss, fired.sum() / len(x)]).double() * len(x)
        sums = torch.cat([means, torch.stack([squares, x.square().sum()]).double(), x.sum(0).double(), fired.double()])
        seen, firing = torch.split(sums, [len(self.meter), len(self.tokens_since_fired)])
        self.meter += seen
        self.tokens_since_fired += len(x)
        self.tokens_since_fired[firing > 0] = 0

    @torch.no_grad()
    def _resample(self, x: Tensor, error: Tensor, step: int) -> None:
        """Point dead features at badly reconstructed tokens, at most one feature a token, and reset their state in Adam.

        As Bricken et al. (2023), but with the token's error, not the token, as the direction: tokens are drawn with odds of
        their squared error squared, and encoder weights get 0.2 of the mean norm of the living ones. A transcoder's encoder points at
        what it reads at that token.
        """
        dead = (self.tokens_since_fired >= self.recipe.dead_after).nonzero()[: len(error), 0]
        alive = self.tokens_since_fired < self.recipe.dead_after
        if not len(dead) or not alive.any():
            return
        draw = torch.Generator().manual_seed(self.seed + step)
        odds = error.double().square().sum(1).square().cpu().clamp(min=1e-30)
        tokens = torch.multinomial(odds, len(dead), generator=draw).to(error.device)
        towards = torch.nn.functional.normalize(error[tokens], dim=1)
        reading = torch.nn.functional.normalize(x[tokens], dim=1) if self.sae.config.transcodes else towards
        self.sae.W_dec[dead] = towards * self.sae.W_dec[alive].norm(dim=1).mean()
        self.sae.W_enc[:, dead] = 0.2 * self.sae.W_enc[:, alive].norm(dim=0).mean() * reading.T
        self.sae.b_enc[dead] = 0
        self.objective.restart(self.sae, dead, alive)
        for name in self.weights.keys() - {"b_dec"}:
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[self.weights[name]][moment][(slice(None), dead) if name == "W_enc" else dead] = 0
        self.tokens_since_fired[dead] = 0

    def report(self) -> dict[str, float]:
        """Loss, L0, explained variance and share of dead features since the last report; resets the sums."""
        sums = self.meter.clone()
        self.meter.zero_()
        tokens, loss, fired, squares, power = sums[:5].tolist()
        spread = power - float(sums[5:].square().sum()) / tokens
        return {
            "loss": loss / tokens,
            "l0": fired / tokens,
            "explained_variance": 1 - squares / spread if spread > 0 else float("nan"),
            "dead": float((self.tokens_since_fired >= self.recipe.dead_after).double().mean()),
        }

    def result(self, provenance: Mapping[str, Any]) -> SAE:
        """The SAE for activations in the model's own units, with its node, this provenance and its scale for its file."""
        transcodes, scale = self.sae.config.transcodes, {"scale": float(self.scale)}
        if transcodes:
            scale["target_scale"] = float(self.target_scale)
        sae = self.objective.trained(self.sae).scaled(scale["scale"], scale.get("target_scale"))
        return SAE.of(replace(sae.config, provenance={**self.sae.config.provenance, **provenance, **scale}), sae.state_dict())

    def _buffers(self) -> dict[str, Tensor]:
        """What changes from step to step and is not learned."""
        own = {"tokens_since_fired": self.tokens_since_fired, "meter": self.meter, "scale": self.scale}
        own |= {"target_scale": self.target_scale} if self.sae.config.transcodes else {}
        return own | {f"objective.{name}": value for name, value in self.objective.named_buffers()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        state = dict(self._buffers())
        for name, weight in self.weights.items():
            state |= {f"weight.{name}": weight.detach()}
            state |= {f"{key}.{name}": value for key, value in self.optimizer.state[weight].items()}
        return state

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state that ``tensors()`` returned."""
        for name, tensor in self._buffers().items():
            tensor.copy_(state[name])
        for name, weight in self.weights.items():
            weight.copy_(state[f"weight.{name}"])
            moments = {key: state[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[weight] = {key: value.to(weight.device).clone() for key, value in moments.items()}


def _scale(parts: list[Tensor]) -> Tensor:
    """The scale that makes the mean norm of activations [token, D] √D. Raises CircuitryError if they are 0 or not finite."""
    norms = torch.cat([part.double().norm(dim=1) for part in parts])
    sums = torch.stack([norms.sum(), torch.tensor(float(len(norms)), dtype=torch.float64, device=norms.device)])
    if not 0 < float(sums[0]) < float("inf"):
        raise CircuitryError("these activations are all 0, or not all finite; there is nothing to learn from them")
    scale: Tensor = parts[0].shape[1] ** 0.5 * (sums[1] / sums[0]).cpu()
    return scale


def seed_of(seed: int, node: object) -> int:
    """The seed of one node's SAE: different for every node, independent of the other nodes trained.

    >>> seed_of(0, "resid[0]") == seed_of(0, "resid[0]") != seed_of(0, "resid[1]")
    True
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {node}".encode(), digest_size=7).digest(), "big")
