"""Paths that both engines follow on every kind of tiny model: each node, port and way of freezing at least once."""

from __future__ import annotations

from support.paths_of_states import (
    BESIDE,
    CONVOLUTIONS,
    DELTA,
    DUAL,
    GRIFFIN,
    HYBRID,
    IN_PARALLEL,
    MAMBA,
    MAMBA2,
    MAMBA2_SINGLE,
    RWKV,
    RWKV7,
    SHARED,
)

ATTENTION = """
embed @ B -> logits
resid[1] @ A -> logits
resid[3] @ END -> logits
resid[0] @ B -> resid[2] @ END freezing head except head[1]
attn[1] @ B+1 -> logits freezing mlp
mlp[0] @ 3 -> logits @ END-1 freezing head[1]
head[0,1].q @ B -> logits freezing mlp
head[0,1].k @ A -> logits
head[0,0].v @ A -> head[2,1].q @ END freezing mlp
head[0,0].v -> head[2,1].pattern freezing head[1,0], head[1,1].k
head[1,0].pattern @ END -> logits directly freezing attn[0]
head[1,1].z @ B+1 -> logits directly except mlp[2], attn[2]
head[0,{head}] @ {pos} -> logits freezing mlp, head[2].pattern
head[{layer},1] @ A -> (logits @ END, mlp[2] @ A) freezing mlp
(head[0,0] @ A, head[1,1] @ B, mlp[1] @ 3) -> logits freezing mlp[2], head[2,0]
(embed @ A, embed @ B+1) -> logits freezing head[1].v
embed -> mlp[{layer}] @ A
mlp[0] @ A -> logits @ {pos} freezing head[2,1]
embed @ B -> (head[{layer},0].q @ END, mlp[{layer}] @ {pos})
head[0,1] @ A -> (head[1,0].k @ A, head[2,1].v @ B+1) freezing mlp -> logits freezing mlp
mlp[0] @ A -> head[1,1].k @ A -> head[2,0].q @ END -> logits directly
embed -> head[1,1].pattern @ END freezing head[0].q, head[0].k
resid[1] @ B -> (resid[1] @ B, mlp[1] @ B) -> logits freezing head.v
""".strip().splitlines()

SEQUENTIAL = """
resid_mid[1] @ B -> logits
resid_mid[0] -> head[2,1].k @ END freezing mlp[1]
head[0,1] @ A -> resid_mid[1] @ B+1 -> logits directly except attn[2]
embed @ A -> (resid_mid[2] @ A, mlp[0] @ A) directly
""".strip().splitlines()

NORMED = """
head[1,0] @ END -> logits directly
head[1,{head}] @ END -> attn[1] @ END
attn[1] @ END -> (mlp[1] @ END, logits) freezing head[2]
resid_mid[1] @ B -> (mlp[1] @ B, resid[2] @ B, head[2,0].k @ B)
resid_mid[1] @ END -> logits directly
""".strip().splitlines()

GROUPED = """
head[0,3].k @ A -> logits freezing mlp
head[1,2].v @ B -> logits freezing head[2,3]
head[0,{head}].k @ B -> head[2,1].q @ END freezing mlp
resid_mid[1] @ B -> logits
""".strip().splitlines()

EXPERTS = """
mlp[1] @ B -> logits freezing head
resid_mid[{layer}] @ B -> logits freezing mlp except mlp[1]
head[1,0] @ B -> mlp[3] @ END freezing ssm_state
ssm_state[{layer}] @ B -> logits freezing ssm_state
""".strip().splitlines()

GATED = """
attn_gate[1,2] @ B -> logits
attn_gate[1] @ END -> attn[1] @ END freezing head
embed @ B -> logits freezing attn_gate except attn_gate[1,0]
head[1,0] @ B -> logits freezing attn_gate
ssm_state[0] @ B -> attn_gate[1,{head}] @ END -> logits
""".strip().splitlines()

ROUTED = """
router[1] @ B -> logits
router[{layer}] @ {pos} -> logits freezing router
router[0] @ A -> router[2] @ END
router[1] -> mlp[1] @ B freezing head
embed @ B -> logits freezing router
embed @ B -> router[{layer}] @ {pos} -> logits freezing router
resid_mid[1] @ B -> mlp[1] @ B freezing router
resid[1] @ A -> logits freezing router except router[2]
head[0,1] @ A -> router[1] @ B+1 -> logits directly except attn[2]
(router[0] @ A, mlp[1] @ B) -> (router[2] @ END, head[2,0].k @ B) freezing head[1] -> logits freezing router[1]
""".strip().splitlines()

FAMILIES = {
    "gpt_neox": ATTENTION,
    "gpt_neox-sequential": ATTENTION + SEQUENTIAL,
    "gpt2": ATTENTION + SEQUENTIAL,
    "gpt_neo": ATTENTION + SEQUENTIAL,
    "bloom": ATTENTION + SEQUENTIAL,
    "llama": ATTENTION + SEQUENTIAL + GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED,
    "mixtral": ROUTED,
    "mamba": MAMBA,
    "falcon_mamba": MAMBA,
    "jamba": HYBRID,
    "jamba-moe": EXPERTS,
    "lfm2": CONVOLUTIONS,
    "recurrent_gemma": GRIFFIN,
    "mamba2": MAMBA2,
    "mamba2-single": MAMBA2_SINGLE,
    "bamba": DUAL,
    "falcon_h1": [path for path in DUAL if not path.startswith(("head[1] @ B -> ssm", "ssm_state[0] @ B -> head"))] + IN_PARALLEL,
    "falcon_h1-normed": IN_PARALLEL,
    "granitemoehybrid": DUAL,
    "granitemoehybrid-moe": DUAL + BESIDE,
    "nemotron_h": DUAL,
    "zamba2": [path for path in DUAL if not path.startswith("mlp[{layer}]")] + SHARED,
    "zamba2-adapted": SHARED,
    "rwkv": RWKV,
    "qwen3_next": DELTA + GATED,
    "kimi_linear": DELTA,
    "olmo_hybrid": DELTA,
    "rwkv7": RWKV7,
    "gemma2": ATTENTION + SEQUENTIAL + GROUPED + NORMED,
    "olmo2": ATTENTION + SEQUENTIAL + NORMED,
}
