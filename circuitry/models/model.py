"""A loaded model: the Hugging Face module with its hook points in place, wrapped for nnsight, and its graph."""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..architecture.definitions import definition_for
from ..architecture.graph import Graph
from ..errors import ModelError
from ..html.shown import Shown
from ..native.own import causal_class
from ..prompting.vocabulary import Vocabulary
from .attention import AttentionTap, most_positions
from .borrowed import Borrowed, borrow
from .checks import check_causality, check_logits
from .gates import put_gate, put_narrow
from .instrumentation import INSTRUMENTATION, Instrumentation
from .latents import HasLatents
from .memory import TakesMemory
from .routers import attach, routed
from .spread import input_device, is_spread, stored
from .unrounded import in_float64

if TYPE_CHECKING:
    from markupsafe import Markup


class Model(Shown, HasLatents, TakesMemory):
    """A causal language model ready for patching. Made by ``circuitry.load``.

    ``hf`` is the instrumented Hugging Face module (in eval mode; ``hf.generate`` works), ``net`` the same wrapped for nnsight,
    ``graph`` its graph, ``vocabulary`` its tokens. The instrumentation shares the parameters of the stock model and changes
    no result. ``release``, or the end of ``with ct.load(module) as model:``, gives back a loaded module as it was before.
    """

    _borrowed: Borrowed | None = None

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_model

        return of_model(self)

    def __init__(self, hf: Any, tokenizer: Any = None, name: str = "model", graph: str | None = None) -> None:
        self.name, self.tokenizer, self._file = name, tokenizer, graph
        self._hf = hf.eval()
        self.saes = {}
        self.hf.config.use_cache = False
        architecture = definition_for(hf.config.model_type, graph)
        self.graph = routed(Graph.of(architecture, hf.config), hf)
        mlps = [block for family in self.graph.by_role("mlp") for block in self._modules(family.name)]
        if self.dtype == torch.float64:
            in_float64(self.hf, mlps)
        attach(mlps if self.graph.experts else ())
        for family, kind in architecture.instrumentation.items():
            blocks = self._modules(family)
            if not all(hasattr(block, "circuitry") for block in blocks):  # an earlier load of the same module has attached it
                INSTRUMENTATION[kind].attach(self.hf, blocks)
        for branch in self.graph.families:
            for block in self._modules(branch.name) if branch.adds or branch.feeds else ():
                put_gate(block)
        put_narrow(self.hf.get_output_embeddings())
        check_logits(self.hf, self.graph.place(self.graph.node("logits")))
        check_causality(
            self.hf,
            self.graph.sizes["layer"],
            max((INSTRUMENTATION[name].chunk for name in architecture.instrumentation.values()), default=0),
        )
        with warnings.catch_warnings():
            # RWKV's output projection is called `output`, like an attribute of nnsight's modules. No node is read there.
            warnings.filterwarnings("ignore", "Module .* has a submodule named 'output'", UserWarning)
            self._net: Any = _wrapped(self.hf)

    @property
    def hf(self) -> Any:
        """The instrumented Hugging Face module. Raises ModelError once the model is released."""
        return self._loaded(self._hf)

    @property
    def net(self) -> Any:
        """The module wrapped for nnsight. Raises ModelError once the model is released."""
        return self._loaded(self._net)

    @property
    def released(self) -> bool:
        """Whether ``release`` was called, so that the model cannot run.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").released
        False
        """
        return self._hf is None

    def _loaded(self, module: Any) -> Any:
        if module is None:
            raise ModelError(f"{self.name} was released; load it again")
        return module

    def release(self) -> None:
        """Stop using the model. A module that was given to ``load`` is restored to its earlier state, bit for bit: dtype, mode,
        settings and methods. If several models share it, the last one to be released restores it.

        If it was loaded in another dtype or on another device, changes that you made to it meanwhile are lost.

        >>> import circuitry as ct
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> module = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1))
        >>> with ct.load(module, dtype="float64") as model:
        ...     print(module.dtype, module.training)
        torch.float64 False
        >>> print(module.dtype, module.training)
        torch.float32 True
        """
        if self._borrowed is not None:
            self._borrowed.release(self)
        self._hf = self._net = self._borrowed = None
        vars(self).pop("mixers", None)

    def widened(self) -> Model:
        """This model, or a copy in float32 if its dtype is narrower: the same function of the same weights, with less rounding.

        Raises ModelError if it is spread over devices, since it cannot be copied then.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba", dtype="bfloat16").widened().dtype
        torch.float32
        """
        if self.dtype.itemsize >= torch.float32.itemsize:
            return self
        if is_spread(self.hf):
            raise ModelError(
                f"{self.name} is spread by device_map, so it cannot be copied; load it in float32 to compare executors"
            )
        wide = Model(copy.deepcopy(self.hf).float(), self.tokenizer, self.name, self._file)
        return wide.attach(self.saes) if self.saes else wide

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def __repr__(self) -> str:
        if self._hf is None:
            return f"<{self.name}: {self.graph.name}, released>"
        return f"<{self.name}: {self.graph.name}, {self.parameters / 1e6:.2f}M parameters, {self.dtype}, {self.device}>"

    def _modules(self, family: str) -> list[Any]:
        """The blocks of a family, one for each layer; empty if a small hybrid has no layer of this kind."""
        if family not in {member.name for member in self.graph.families}:
            return []
        return [self.hf.get_submodule(self.graph.block(node)) for node in self.graph.nodes(family)]

    @functools.cached_property
    def mixers(self) -> list[Any]:
        """The instrumented blocks other than attention: those with a convolution or a recurrent state; empty for a Transformer.

        >>> import circuitry as ct
        >>> len(ct.load("bundled:mamba").mixers)
        4
        """
        blocks = [block for family in self.graph.architecture.instrumentation for block in self._modules(family)]
        return [block for block in blocks if not isinstance(block.circuitry, AttentionTap)]

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
    def _kinds(self) -> list[Instrumentation]:
        return [INSTRUMENTATION[name] for name in self.graph.architecture.instrumentation.values()]

    @property
    def device(self) -> torch.device:
        """The device of the parameters; for a model that is spread, the device of its inputs.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").device
        device(type='cpu')
        """
        return input_device(self.hf)

    @property
    def parameters(self) -> int:
        """Number of parameters; tied ones count once.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").parameters < 1_000_000
        True
        """
        # Tied weights are excluded by name: a model with weights on disk has two separate parameters for them.
        tied = self.hf.get_expanded_tied_weights_keys(all_submodels=True)
        untied = {p for name, p in self.hf.named_parameters(remove_duplicate=False) if name not in tied}
        return sum(p.numel() for p in untied)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the name, shape, dtype and bytes of every weight: the same for the same model in the same dtype.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").fingerprint == ct.load("bundled:gpt_neox").fingerprint
        False
        """
        digest = hashlib.blake2b(digest_size=8)
        for name, value in stored(self.hf):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def next_logits(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logits [row, vocabulary] after the last token of ids [row, position], in float64.

        >>> import circuitry as ct
        >>> import numpy as np
        >>> ct.load("bundled:mamba").next_logits(np.array([[0, 5, 7]])).shape
        (1, 2048)
        """
        rows = torch.from_numpy(np.ascontiguousarray(ids)).to(self.device)
        logits = self.hf(rows, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits.double().cpu().numpy()  # type: ignore[no-any-return]

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens that a task may use."""
        return Vocabulary.of(self.tokenizer, self.hf.config.vocab_size, self.positions)

    @functools.cached_property
    def positions(self) -> int | None:
        """The largest number of tokens in a prompt; None if nothing depends on absolute positions, as in a state-space model.

        >>> import circuitry as ct
        >>> ct.load("bundled:gpt_neox").positions, ct.load("bundled:mamba").positions
        (512, None)
        """
        return most_positions(self.hf.config) if self.graph.by_role("head") else None


def unloaded(config: Any, dtype: torch.dtype = torch.bfloat16, graph: str | None = None) -> Model:
    """A model without weights, for its size and for the cost of a plan on an executor. It cannot run.

    >>> from transformers import LlamaConfig
    >>> model = unloaded(LlamaConfig())
    >>> f"{model.parameters / 1e9:.1f}", model.graph.sizes["layer"], model.device
    ('6.7', 32, device(type='meta'))
    """
    with torch.device("meta"):
        hf = causal_class(config)(config).to(dtype)
    # The constructor would run the model to check it, which needs weights.
    model = Model.__new__(Model)
    model.name, model.tokenizer, model._file, model._hf, model._net, model.saes = config.model_type, None, graph, hf, None, {}
    architecture = definition_for(config.model_type, graph)
    model.graph = routed(Graph.of(architecture, config), hf)
    return model


def _wrapped(hf: Any) -> Any:
    """The module wrapped for nnsight."""
    from nnsight import NNsight

    class Wrapped(NNsight):  # type: ignore[misc]
        # nnsight moves inputs to this device, by default that of the first weight, which is 'meta' if that weight is on disk.
        device = None

    return Wrapped(hf)


def wrap(
    hf: Any,
    tokenizer: Any = None,
    name: str = "model",
    graph: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Model:
    """Make a Model of a Hugging Face module that you built, until it is released. Raises ModelError for anything else.

    ``graph``: the file of a custom architecture. The module keeps its dtype and device by default. A refused module is not
    changed.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> wrap(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)).eval()).graph.name
    'gpt2'
    """
    if not hasattr(hf, "config") or not hasattr(hf.config, "model_type"):
        raise ModelError(f"{type(hf).__name__} is not a Hugging Face model; give a name, a folder, a GGUF file or such a model")
    borrowed = borrow(hf)
    try:
        borrowed.move(hf, dtype, device)
        model = Model(hf, tokenizer, name, graph)
    except BaseException:
        borrowed.release()
        raise
    model._borrowed = borrowed
    borrowed.holders.add(model)
    return model
