"""Routers of mixtures of experts that would round a float64 model to float32."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .gates import replace_forward, stock_forward


def unrounded(model: Any) -> None:
    """Let the routers of a model in float64 weigh experts in float64. They still choose in float32, as the stock model does.

    >>> from transformers import KimiLinearConfig
    >>> from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearTopkRouter
    >>> router = KimiLinearTopkRouter(KimiLinearConfig(hidden_size=2, num_local_experts=4, num_experts_per_tok=2)).double()
    >>> unrounded(router)
    >>> router(router.weight[:1])[1].dtype
    torch.float64
    """
    for module in model.modules():
        router = hasattr(module, "e_score_correction_bias") and hasattr(module, "routed_scaling_factor")
        if router and type(module).forward is not _routed:
            replace_forward(module, _routed)


def _routed(self: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, _, chosen = stock_forward(self)(hidden_states)
    logits = F.linear(hidden_states.reshape(-1, self.hidden_dim), self.weight)
    weights = logits.sigmoid().gather(1, chosen)
    if self.norm_topk_prob:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return logits, weights * self.routed_scaling_factor, chosen
