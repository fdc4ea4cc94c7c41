"""GPT-2 and GPT-BigCode: attention, then the MLP; learned position embeddings join the stream after ``embed``."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="gpt2",
    model_types=("gpt2", "gpt_bigcode"),
    citations=("Radford et al. 2019, Language Models are Unsupervised Multitask Learners",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="transformer.wte",
    layers="transformer.h.{layer}",
    attention="attn",
    middle="ln_2",
    final_norm="transformer.ln_f",
    example={"layer": 12, "head": 12, "parallel": 0},
)
