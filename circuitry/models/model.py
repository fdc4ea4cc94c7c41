"""A loaded model: the Hugging Face module with its taps in place, wrapped for nnsight, and its graph."""

from __future__ import annotations

import functools
import hashlib
import warnings
from typing import Any

import torch

from ..architecture import Graph, definition_for
from ..errors import ModelError
from .instruments import INSTRUMENTS
from .vocabulary import Vocabulary


class Model:
    """A causal language model ready for patching. Made by ``circuitry.load``.

    ``hf`` is the instrumented Hugging Face module (in eval mode, without cache), ``net`` the same wrapped for nnsight,
    ``graph`` its graph, ``vocabulary`` its tokens. The taps share the parameters of the stock model and change no result.
    """

    def __init__(self, hf: Any, tokenizer: Any = None, name: str = "model", graph: str | None = None) -> None:
        from nnsight import NNsight

        self.name, self.tokenizer = name, tokenizer
        self.hf = hf.eval()
        self.hf.config.use_cache = False
        if self.dtype == torch.float64:  # experts' grouped products stop at float32
            self.hf.set_experts_implementation("eager")
        architecture = definition_for(hf.config.model_type, graph)
        self.graph = Graph(architecture, architecture.sizes(hf.config), architecture.windows(hf.config))
        for family, instrument in architecture.taps.items():
            blocks = self._modules(family)
            if not all(hasattr(block, "circuitry") for block in blocks):  # by an earlier load of the same module
                INSTRUMENTS[instrument].attach(self.hf, blocks)
        with warnings.catch_warnings():
            # RWKV's output projection is called `output`, as is what nnsight serves on every module; it is no place of a node.
            warnings.filterwarnings("ignore", "Module .* has a submodule named 'output'", UserWarning)
            self.net = NNsight(self.hf)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.graph.name}, {self.parameters / 1e6:.2f}M parameters, {self.dtype}, {self.device}>"

    def _modules(self, family: str) -> list[Any]:
        """None where a hybrid is so small that it has no layer of the kind."""
        if family not in {known.name for known in self.graph.families}:
            return []
        return [self.hf.get_submodule(self.graph.place(node).module) for node in self.graph.nodes(family)]

    @functools.cached_property
    def mixers(self) -> list[Any]:
        """The instrumented blocks that have a recurrent state; empty for a Transformer.

        >>> import circuitry as ct
        >>> len(ct.load("bundled:mamba").mixers)
        4
        """
        blocks = [block for family in self.graph.architecture.taps for block in self._modules(family)]
        return [block for block in blocks if hasattr(block.circuitry, "stops")]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").dtype
        torch.float32
        """
        dtype: torch.dtype = self.hf.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").device
        device(type='cpu')
        """
        device: torch.device = self.hf.device
        return device

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").parameters < 1_000_000
        True
        """
        return sum(p.numel() for p in self.hf.parameters())

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of every weight's name, shape, dtype and bytes: the same for the same model in the same dtype.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").fingerprint == ct.load("bundled:gpt_neox").fingerprint
        False
        """
        digest = hashlib.blake2b(digest_size=8)
        for name, value in self.hf.state_dict().items():
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens a task may use."""
        return Vocabulary.of(self.tokenizer, self.hf.config.vocab_size)

    def bytes_per_row(self, length: int) -> int:
        """Predicted peak memory of one row of ``length`` tokens in a batch, in bytes: the largest tensors of one layer.

        >>> import circuitry as ct
        >>> model = ct.load("bundled:mamba")
        >>> model.bytes_per_row(64) > model.bytes_per_row(32) > 0
        True
        """
        config, size = self.hf.config, self.dtype.itemsize
        widest = max(INSTRUMENTS[name].values(config, length) for name in self.graph.architecture.taps.values())
        return int(size * (widest + 4 * length * config.hidden_size + 3 * config.vocab_size))


def wrap(hf: Any, tokenizer: Any = None, name: str = "model", graph: str | None = None) -> Model:
    """Make a Model of a Hugging Face module you built yourself. Raises ModelError for anything else.

    ``graph``: the file of an architecture of your own.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> wrap(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)).eval()).graph.name
    'gpt2'
    """
    if not hasattr(hf, "config") or not hasattr(hf.config, "model_type"):
        raise ModelError(f"{type(hf).__name__} is no Hugging Face model; give a name, a folder, a GGUF file or such a model")
    return Model(hf, tokenizer, name, graph)
