"""What a reader needs to get the same numbers again, and to say in a paper how they were made."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..executing.effects import signed_of, unit_of
from ..models.model import Model
from ..paths.json import to_data
from ..planning.explain import explain as explain_plan
from ..planning.metrics import Metric
from ..planning.values import Plan
from ..prompting.prompts import Prompts
from ..prompting.task import Task
from ..results.recorded import ends


def provenance(model: Model, task: Task, plan: Plan, metric: Metric, prompts: Prompts) -> dict[str, Any]:
    """The record of one table: path, plan, model, task, intervention, seed and versions.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> provenance(model, task, plan, ct.patching.METRICS["logit"], prompts)["path"]
    'h[2] @ B+1 -> logits'
    """
    return {
        "path": plan.title,
        "paths": {label: str(path) for label, path in plan.named.items()},
        "path_data": {str(label): to_data(path) for label, path in (plan.named or {"": plan.path}).items()},
        "plan": str(explain_plan(plan)),
        "model": model.name,
        **commit(model),
        "task": task.record,
        "intervention": str(plan.intervention),
        "source_becomes": plan.intervention.phrase,
        "base": plan.base,
        "unit": (unit := unit_of(plan, metric)),
        "never_negative": [] if signed_of(plan, metric) else [unit],
        "seed": task.seed,
        "skipped": [f"{dict(cell.values)}: {reason}" for cell, reason in plan.skipped],
        "versions": versions(),
        **autoencoders(model),
        **labels(model, plan),
        **({} if prompts.distinct == len(prompts) else {"distinct_examples": prompts.distinct}),
    }


def commit(model: Model) -> dict[str, str]:
    """The commit of a model's files on the Hugging Face Hub, since a branch may move later; empty for other models.

    >>> import circuitry as ct
    >>> commit(ct.load("bundled:mamba"))
    {}
    """
    commit_hash = getattr(model.hf.config, "_commit_hash", None)
    return {"commit": commit_hash} if commit_hash else {}


def autoencoders(model: Model) -> dict[str, Any]:
    """The autoencoders that are attached to a model, by node: kind, latents and a digest of the weights; nothing without any.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> autoencoders(ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))}))["autoencoders"]["resid[2]"]["latents"]
    256
    """
    if not model.saes:
        return {}
    return {
        "autoencoders": {
            str(node): {"kind": sae.config.kind, "latents": sae.config.features, "digest": sae.digest()}
            for node, sae in model.saes.items()
        }
    }


def labels(model: Model, plan: Plan) -> dict[str, dict[str, str]]:
    """The labels of the latents that the cells of a plan name; nothing if none has one.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256)).labelled({3: "brackets"})})
    >>> labels(model, ct.planning.plan("resid[2].latent[{k}] -> logits", model.graph))
    {'labels': {'resid[2].latent[3]': 'brackets'}}
    """
    by_node = {host: sae.labels for host, sae in model.saes.items()}
    if not any(by_node.values()):
        return {}
    named: dict[str, str] = {}
    for node in (site.node for cell in plan.cells for site in ends(cell.path)):
        number = node.term.number if node.term else None
        if number is not None and (text := by_node.get(model.graph.canonical(node.host), {}).get(number)):
            named[str(node)] = text
    return {"labels": named} if named else {}


def model_record(model: Model) -> dict[str, Any]:
    """What a run's record says of its model.

    >>> import circuitry as ct
    >>> model_record(ct.load("bundled:mamba"))["architecture"]
    'mamba'
    """
    return {
        "model": model.name,
        **commit(model),
        "architecture": model.graph.name,
        "parameters": model.parameters,
        "layers": model.graph.sizes["layer"],
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        **autoencoders(model),
    }


def inputs(model: Model, prompts: Prompts) -> str:
    """A digest of the graph, of attached autoencoders and of the prompts: another graph file, tokenizer or task has another.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> inputs(model, task.prompts(model.vocabulary)) == inputs(model, task.but(seed=1).prompts(model.vocabulary))
    False
    """
    graph = model.graph
    places = [(str(node), graph.place(node)) for node in graph.nodes(ports=True) if graph.family(node.family).place]
    made = hashlib.sha256(repr((places, sorted(map(str, graph.nx.edges(data=True))))).encode())
    made.update(repr(autoencoders(model)).encode() if model.saes else b"")
    for ids in (prompts.clean, prompts.corrupted, prompts.answer, prompts.foil, *prompts.where.values()):
        made.update(ids.tobytes())
    return made.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what computes the numbers.

    >>> sorted(versions())
    ['circuitry-lm', 'nnsight', 'numpy', 'python', 'scipy', 'torch', 'transformers']
    """
    names = ("circuitry-lm", "torch", "transformers", "nnsight", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


@cache
def _version(name: str) -> str:
    # Cached, since finding a distribution reads its metadata from disk, and every table asks for six.
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
