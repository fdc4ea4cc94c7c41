"""GPT-Neo and TinyStories: attention, then the MLP; learned position embeddings join the stream after ``embed``.

In most models, every other layer sees only the last tokens (``local`` in the config). Scores are not scaled.
"""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="gpt_neo",
    model_types=("gpt_neo",),
    citations=(
        "Black et al. 2021, GPT-Neo, doi:10.5281/zenodo.5297715",
        "Eldan & Li 2023, TinyStories, arXiv:2305.07759",
    ),
    sizes=lambda config: {"layer": config.num_layers, "head": config.num_heads, "parallel": 0},
    embed="transformer.wte",
    layers="transformer.h.{layer}",
    attention="attn.attention",
    middle="ln_2",
    final_norm="transformer.ln_f",
    example={"layer": 4, "head": 16, "parallel": 0},
    windows=lambda config: {n: config.window_size for n, kind in enumerate(config.attention_layers) if kind == "local"},
)
