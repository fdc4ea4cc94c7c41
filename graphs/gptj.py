"""GPT-J and CodeGen: attention and MLP read the same norm of the same residual stream (parallel)."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="gptj",
    model_types=("gptj", "codegen"),
    citations=(
        "Wang & Komatsuzaki 2021, GPT-J-6B",
        "Nijkamp et al. 2022, CodeGen, arXiv:2203.13474",
    ),
    sizes=lambda config: {"layer": config.n_layer, "head": config.n_head, "parallel": 1},
    embed="transformer.wte",
    layers="transformer.h.{layer}",
    attention="attn",
    final_norm="transformer.ln_f",
    example={"layer": 28, "head": 16, "parallel": 1},
)
