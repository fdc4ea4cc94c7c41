"""A sparse autoencoder or transcoder: its weights, and the function they define."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CircuitryError, suggest
from ..html.shown import Shown

if TYPE_CHECKING:
    from markupsafe import Markup

KINDS = ("relu", "topk", "jumprelu")


@dataclass(frozen=True)
class SAEConfig:
    """The settings of an SAE, apart from its weights.

    ``kind``: relu; topk, which keeps the ``k`` greatest features of a token; jumprelu, which keeps features above a threshold
    that each has. ``centred``: the decoder's bias is subtracted from the input first, as
    some files require. ``provenance`` is written into the SAE's file: model, node, text, settings of the training.

    A transcoder reads one node and predicts another: ``width`` is then that of the node it reads, which ``provenance`` names,
    ``target`` the node it predicts, and ``target_width`` that node's width. None: an autoencoder, which predicts what it reads.

    >>> SAEConfig(width=4, features=16, kind="topk")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: a topk SAE needs k from 1 to 16 (its features), not None
    """

    width: int
    features: int
    kind: str = "relu"
    k: int | None = None
    centred: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    target_width: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CircuitryError(f"unknown kind of SAE {self.kind!r}; {suggest(self.kind, KINDS)}")
        if self.width < 1 or self.features < 1:
            raise CircuitryError(f"width and features must be at least 1, got width={self.width} and features={self.features}")
        integer = isinstance(self.k, int) and not isinstance(self.k, bool)
        if self.kind == "topk" and not (integer and 1 <= (self.k or 0) <= self.features):
            raise CircuitryError(f"a topk SAE needs k from 1 to {self.features} (its features), not {self.k!r}")
        self._check_target()

    def _check_target(self) -> None:
        if self.target is not None and self.target_width is None:
            raise CircuitryError(f"a transcoder to {self.target} needs that node's width, target_width")
        if self.target_width is not None and self.target_width < 1:
            raise CircuitryError(f"target_width must be at least 1, got {self.target_width}")
        if self.target_width is not None and self.centred:
            raise CircuitryError(
                "a transcoder cannot be centred: its b_dec belongs to the node it predicts, not to the one it reads"
            )

    @property
    def transcodes(self) -> bool:
        """Whether it predicts another node than it reads.

        >>> SAEConfig(4, 16).transcodes, SAEConfig(4, 16, target="mlp[0]", target_width=4).transcodes
        (False, True)
        """
        return self.target_width is not None

    @property
    def predicted(self) -> int:
        """The width of what it predicts.

        >>> SAEConfig(4, 16).predicted, SAEConfig(4, 16, target_width=6).predicted
        (4, 6)
        """
        return self.width if self.target_width is None else self.target_width

    @property
    def node(self) -> str | None:
        """The node whose value it predicts, which its features belong to; None if it is not known.

        >>> SAEConfig(4, 16, target="mlp[0]", target_width=4, provenance={"node": "resid[0]"}).node
        'mlp[0]'
        """
        return self.target if self.transcodes else self.provenance.get("node")

    @property
    def norm(self) -> float:
        """The norm that directions start with."""
        return 1.0 if self.kind == "topk" else float((2 * self.width / self.features) ** 0.5)


class SAE(Shown, nn.Module):
    """A sparse autoencoder of activations of width D with F features, in float32.

    f = activation(x W_enc + b_enc) and x̂ = f W_dec + b_dec, with W_enc (D, F), b_enc (F,), W_dec (F, D), b_dec (D,): the rows of
    ``W_dec`` are the features' directions. A jumprelu also has a ``threshold`` (F,). x are the model's values, unscaled. A transcoder's
    W_dec and b_dec have the width of the node that it predicts.

    Initialised as in appendix A of the paper: rows of W_dec uniform, scaled to norm √(2D/F), W_enc its transpose, biases 0.
    About half of all features then fire, and x̂ is close to x. Of a topk SAE, which the paper does not have, they have norm 1. The
    encoder of a transcoder is drawn as the directions are, since it reads another node.
    """

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_sae

        return of_sae(self)

    def __init__(self, config: SAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        width, features = config.width, config.features
        generator = torch.Generator().manual_seed(seed)

        def drawn(size: int) -> Tensor:
            return functional.normalize(torch.rand(features, size, generator=generator) * 2 - 1, dim=1) * config.norm

        directions = drawn(config.predicted)
        self.W_enc = nn.Parameter((drawn(width) if config.transcodes else directions).T.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(features))
        self.W_dec = nn.Parameter(directions)
        self.b_dec = nn.Parameter(torch.zeros(config.predicted))
        if config.kind == "jumprelu":
            self.threshold = nn.Parameter(torch.zeros(features))

    def encode(self, x: Tensor) -> Tensor:
        """Features [..., F] of activations [..., D], at least 0."""
        return self.activate(self.before(x))

    def before(self, x: Tensor) -> Tensor:
        """What features [..., F] are before the activation function, from activations [..., D]."""
        x = x.to(self.W_enc.dtype)
        return functional.linear(x - self.b_dec if self.config.centred else x, self.W_enc.T, self.b_enc)

    def activate(self, before: Tensor) -> Tensor:
        """The activation function of this kind of SAE, of [..., F]."""
        if self.config.kind == "relu":
            return functional.relu(before)
        if self.config.kind == "jumprelu":
            return functional.relu(before) * (before > self.threshold)
        values, at = before.topk(self.config.k or 0, dim=-1, sorted=False)
        return torch.zeros_like(before).scatter(-1, at, functional.relu(values))

    def encode_at(self, x: Tensor, latents: Tensor) -> Tensor:
        """One feature of each of n activations, [n]: of x [n, D] those with the numbers ``latents`` [n].

        Others are not computed where a feature does not depend on them.
        """
        if self.config.kind not in ("relu", "jumprelu"):
            return self.encode(x).gather(-1, latents[:, None])[:, 0]
        x = x.to(self.W_enc.dtype)
        x = x - self.b_dec if self.config.centred else x
        before = (x * self.W_enc.T[latents]).sum(-1) + self.b_enc[latents]
        fires = before > self.threshold[latents] if self.config.kind == "jumprelu" else before > 0
        return functional.relu(before) * fires

    def decode(self, features: Tensor) -> Tensor:
        """Activations [..., D] from features [..., F]; of a transcoder, of the node that it predicts."""
        return functional.linear(features, self.W_dec.T, self.b_dec)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction [..., D] and the features [..., F]."""
        features = self.encode(x)
        return self.decode(features), features

    @torch.no_grad()
    def scaled(self, scale: float, target: float | None = None) -> SAE:
        """The SAE that gives for x the features this one gives for ``scale``·x, and its reconstruction divided by ``scale``.

        Of a transcoder, the prediction is divided by ``target``.
        """
        back = scale if target is None else target
        return self._with(W_enc=self.W_enc * scale, W_dec=self.W_dec / back, b_dec=self.b_dec / back)

    def between(self, source: object, target: object) -> SAE:
        """The transcoder with these weights that reads the node ``source`` and predicts ``target``, for files that name neither.

        Raises CircuitryError if b_dec is subtracted from the input.

        >>> SAE(SAEConfig(4, 8)).between("resid_mid[0]", "mlp[0]")
        SAE(resid_mid[0] -> mlp[0] relu, 4 -> 8 -> 4)
        """
        provenance = {**self.config.provenance, "node": str(source)}
        config = replace(self.config, target=str(target), target_width=self.config.predicted, provenance=provenance)
        return SAE.of(config, self.state_dict())

    @torch.no_grad()
    def unit(self) -> SAE:
        """The SAE with directions of norm 1 and each feature multiplied by its direction's norm: a relu reconstructs the same.

        A topk or jumprelu SAE then selects features by their share in x̂, as some files intend.
        """
        norm = self.W_dec.norm(dim=1)
        norm = torch.where(norm > 0, norm, 1)  # a feature without a direction stays without one
        return self._with(W_enc=self.W_enc * norm, b_enc=self.b_enc * norm, W_dec=self.W_dec / norm[:, None])

    @torch.no_grad()
    def jumping(self, threshold: Tensor) -> SAE:
        """The jumprelu SAE with these weights, which keeps a feature above its threshold, of [F].

        >>> SAE(SAEConfig(4, 8, "topk", 2)).jumping(torch.ones(8))
        SAE(jumprelu, 4 -> 8)
        """
        weights = {**self.state_dict(), "threshold": threshold.to(self.W_enc)}
        return SAE.of(replace(self.config, kind="jumprelu", k=None), weights)

    def on(self, device: torch.device | str) -> SAE:
        """This SAE on a device: itself if it is on that device already, else a copy."""
        if self.W_enc.device == torch.device(device):
            return self
        return self._with(**{name: value.to(device) for name, value in self.state_dict().items()})

    def _with(self, **weights: Tensor) -> SAE:
        """A copy of this SAE with these weights replaced."""
        return SAE.of(self.config, {**self.state_dict(), **weights})

    @classmethod
    def of(cls, config: SAEConfig, weights: Mapping[str, Tensor]) -> SAE:
        """An SAE from weights by name: W_enc, b_enc, W_dec, b_dec (and threshold), converted to float32.

        Raises CircuitryError if names or shapes do not fit ``config``.
        """
        with torch.device("meta"):  # allocates nothing: the weights are assigned below
            sae = cls(config)
        wanted = {name: tuple(value.shape) for name, value in sae.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in weights.items()}
        if wanted != given:
            raise CircuitryError(f"the weights of this {config.kind} SAE are {wanted}, not {given}")
        sae.load_state_dict({name: value.detach().float().contiguous() for name, value in weights.items()}, assign=True)
        return sae

    @property
    def labels(self) -> dict[int, str]:
        """What somebody wrote about single features, by number."""
        return {int(number): str(text) for number, text in self.config.provenance.get("labels", {}).items()}

    def labelled(self, labels: Mapping[int, str]) -> SAE:
        """The same with labels of features, beside or in place of those it has; tables show them, and its file keeps them.

        Raises CircuitryError for a number that is not a feature's.

        >>> SAE(SAEConfig(2, 6)).labelled({3: "closing brackets"}).labels
        {3: 'closing brackets'}
        """
        if wrong := [n for n, text in labels.items() if not isinstance(n, int) or not isinstance(text, str)]:
            raise CircuitryError(
                f"labels are texts by number, such as {{3: 'closing brackets'}}; got {{{wrong[0]!r}: {labels[wrong[0]]!r}}}"
            )
        if wrong := [number for number in labels if not 0 <= number < self.config.features]:
            raise CircuitryError(f"a label for feature {wrong[0]}; there are 0 to {self.config.features - 1}")
        every = {str(number): text for number, text in {**self.labels, **labels}.items()}
        config = replace(self.config, provenance={**self.config.provenance, "labels": every})
        return SAE.of(config, self.state_dict())

    def digest(self) -> str:
        """A digest of the kind and of the weights in float32."""
        made = hashlib.blake2b(f"{self.config.kind} {self.config.k} {self.config.centred}".encode(), digest_size=8)
        for name, weight in self.state_dict().items():
            made.update(f"{name} {tuple(weight.shape)}".encode())
            made.update(weight.detach().cpu().float().contiguous().numpy().data)
        return made.hexdigest()

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``cfg.json`` and ``sae_weights.safetensors`` in SAELens's layout; returns the folder."""
        from .files import save

        return save(self, folder)

    @classmethod
    def load(cls, place: str | PathLike[str]) -> SAE:
        """Read a folder in the layout of SAELens, sparsify or OpenMOSS, or Gemma Scope's ``params.npz``. Raises CircuitryError for any other."""
        from .files import load

        return load(place)

    def extra_repr(self) -> str:
        """The text between the brackets when an SAE is printed."""
        config, k = self.config, f", k={self.config.k}" if self.config.k else ""
        node = str(config.provenance.get("node", "")) + (f" -> {config.target}" if config.target else "")
        target = f" -> {config.target_width}" if config.transcodes else ""
        return f"{node} {config.kind}, {config.width} -> {config.features}{target}{k}".strip()
