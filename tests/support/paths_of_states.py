"""Paths that models with states, and with convolutions, are tested on: by hand, so that every node, port and rule occurs."""

from __future__ import annotations

MAMBA = """
embed -> logits
ssm_state[1] @ B+1 -> logits freezing ssm_state
ssm_state[0] -> logits freezing ssm_state
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state
ssm_state[0].read @ B -> logits
ssm_state[0].carry @ B -> logits freezing ssm_state[1]
ssm_state[1].carry @ B -> (ssm_state[1].read @ END, ssm_state[2].carry @ B+2)
ssm_in[1] @ B -> logits freezing mixer_out[2]
ssm_in[1].value @ B -> logits
ssm_in[0].delta @ A -> logits freezing ssm_state except ssm_state[0]
ssm_in[1].B @ B -> ssm_state[1] @ B+2
ssm_in[1].C @ END -> logits directly
ssm_in[0].skip @ 3 -> logits @ END-1
conv_in[1] @ B -> ssm_in[1] @ B+1
conv_in[0] @ A -> conv_tap[0,2] @ A+2
conv_in[1] @ B -> logits freezing ssm_in[1].delta, ssm_in.B, ssm_in.C
conv_tap[1,1] @ B+1 -> logits freezing ssm_state
conv_tap[1,{lag}] @ B+1 -> ssm_state[1] @ END
(ssm_state[0] @ B, ssm_state[1] @ 4, gate[2] @ END) -> logits freezing ssm_state
(conv_tap[0,0] @ B, conv_tap[0,0] @ A) -> resid[2] @ END freezing gate
gate[1] @ B+1 -> logits
ssm_out[1] @ B -> logits directly except mixer_out[2]
mixer_out[0] @ A -> logits freezing mixer_out[1], conv_tap[2,0]
resid[1] @ B -> ssm_state[1] @ B+1 -> ssm_state[2] @ END -> logits freezing ssm_state
ssm_in[0] @ B -> (ssm_in[1] @ B+1, gate[1] @ B+2) freezing ssm_state[1] -> logits freezing gate[2]
(ssm_state[0] @ 3, ssm_in[0].C @ 5) -> (ssm_state[0] @ B, mixer_out[1] @ B+1) -> logits @ 5 directly
embed -> ssm_state[1] freezing conv_in except conv_in[1]
embed @ B -> ssm_state[{layer}] @ {pos}
embed -> conv_tap[{layer},{lag}] @ B+1 -> logits freezing ssm_state
x[1] @ B -> h[2] @ END freezing g, h[1] except g[2]
""".strip().splitlines()

MAMBA2 = """
embed -> logits
ssm_state[1,2] @ B+1 -> logits freezing ssm_state
ssm_state[1] @ B -> logits freezing ssm_state
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state
ssm_state[0,{head}] @ {pos} -> logits freezing ssm_state
ssm_state[0] -> logits freezing ssm_state
ssm_state[1,3] -> logits freezing ssm_state[0], ssm_state[1,0], gate
ssm_state[0,1].read @ B -> logits
ssm_state[0].carry @ B -> logits freezing ssm_state[1]
ssm_state[1,0].carry @ B -> (ssm_state[1,0].read @ END, ssm_state[2,1].carry @ B+2)
ssm_in[1] @ B -> logits freezing ssm_state except ssm_state[1]
ssm_in[1] @ B -> logits freezing ssm_state except ssm_state[1,3]
ssm_in[1].value @ B -> logits
ssm_in[1].B @ B -> ssm_state[1,0] @ B+2
ssm_in[1].B @ B -> ssm_state[1] @ B+2 freezing delta
ssm_in[1].C @ END -> logits directly
ssm_in[0].skip @ 3 -> logits @ END-1
delta[0,1] @ A -> logits freezing ssm_state except ssm_state[0,1]
delta[0] @ B -> ssm_state[0] @ END
delta[{layer},{head}] @ B -> logits freezing delta
embed @ B -> delta[{layer},0] @ B+1 -> logits
resid[1] @ B -> delta[1,0] @ B freezing conv_in
embed @ B -> logits freezing delta except delta[1]
conv_in[1] @ B -> ssm_in[1] @ B+1
conv_in[0] @ A -> conv_tap[0,2] @ A+2
conv_in[1] @ B -> logits freezing ssm_in[1].value, ssm_in.B, ssm_in.C
conv_tap[1,{lag}] @ B+1 -> ssm_state[1,1] @ END
(ssm_state[0,1] @ B, ssm_state[1] @ 4, gate[2] @ END) -> logits freezing ssm_state
ssm_out[1,0] @ B -> logits directly except mixer_out[2]
ssm_out[1] @ B -> resid[2] @ B
ssm_out[0,1] @ B -> ssm_out[2,{head}] @ END freezing ssm_out[1,1], ssm_out[1,2]
mixer_out[0] @ A -> logits freezing mixer_out[1], conv_tap[2,0]
resid[1] @ B -> ssm_state[1,0] @ B+1 -> ssm_state[2] @ END -> logits freezing ssm_state
ssm_in[0] @ B -> (ssm_in[1] @ B+1, gate[1] @ B+2) freezing ssm_state[1] -> logits freezing gate[2]
embed -> ssm_state[1] freezing conv_in except conv_in[1]
embed @ B -> ssm_state[{layer},{head}] @ {pos}
x[1] @ B -> h[2,0] @ END freezing g, h[1] except g[2], h[1,2]
""".strip().splitlines()

MAMBA2_SINGLE = """
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state
ssm_state[1,1] @ B+1 -> logits freezing ssm_state
ssm_in[1].B @ B -> ssm_state[1,0] @ B+2 freezing ssm_state[1,1]
delta[1,{head}] @ B -> logits
conv_tap[0,{lag}] @ B+2 -> ssm_out[1] @ END freezing delta[1,0]
""".strip().splitlines()

RWKV = """
embed -> logits
wkv_state[1] @ B+1 -> logits freezing wkv_state
wkv_state[0] -> logits freezing wkv_state
wkv_state[{layer}] @ {pos} -> logits freezing wkv_state
wkv_state[0].read @ B -> logits
wkv_state[0].carry @ B -> logits freezing wkv_state[1]
wkv_state[1].carry @ B -> (wkv_state[1].read @ END, wkv_state[2].carry @ B+2)
wkv_state[0].read @ B -> wkv_out[0] @ B+1
wkv_in[1] @ B -> logits freezing mixer_out[2]
wkv_in[1].value @ B -> logits
wkv_in[0].key @ A -> logits freezing wkv_state except wkv_state[0]
wkv_in[0].value @ A -> wkv_out[0] @ A freezing wkv_state
wkv_in[1].key @ B -> wkv_state[1] @ B+2
wkv_in[1].receptance @ END -> logits directly
shift_in[1] @ B -> wkv_in[1] @ B+1
shift_in[0] @ A -> shift_tap[0,1] @ A+1
shift_in[1] @ B -> logits freezing wkv_in.receptance, shift_tap[1,1].key
shift_tap[1,1] @ B+1 -> logits freezing wkv_state
shift_tap[1,{lag}].value @ B+1 -> wkv_state[1] @ END
shift_tap[2,1].receptance @ END -> logits
(wkv_state[0] @ B, wkv_state[1] @ 4, gate[2] @ END) -> logits freezing wkv_state
(shift_tap[0,0] @ B, shift_tap[0,0].key @ A) -> resid[2] @ END freezing gate
gate[1] @ B+1 -> logits
wkv_out[1] @ B -> logits directly except mixer_out[2]
mixer_out[0] @ A -> logits freezing mixer_out[1], shift_tap[2,0]
resid_mid[1] @ B -> mlp_in[1] @ B -> mlp_gate[2] @ END -> logits
mlp_in[0] @ A -> logits freezing mlp_tap[0,0]
mlp_tap[1,1].key @ B+1 -> logits freezing mlp_gate
mlp_tap[{layer},{lag}] @ END -> logits directly
mlp_hidden[1] @ B -> logits freezing mlp except mlp[1]
(mlp_gate[0] @ END, mlp[1] @ END) -> logits directly
resid[1] @ B -> wkv_state[1] @ B+1 -> wkv_state[2] @ END-1 -> logits freezing wkv_state
wkv_in[0] @ B -> (wkv_in[1] @ B+1, gate[1] @ B+2) freezing wkv_state[1] -> logits freezing gate[2]
embed -> wkv_state[1] freezing shift_in except shift_in[1]
embed @ B -> wkv_state[{layer}] @ {pos}
x[1] @ B -> h[2] @ END freezing g, h[1] except g[2]
""".strip().splitlines()

RWKV7 = """
wkv_state[{layer}] @ B -> logits
wkv_state[1,{state_head}] @ B -> logits freezing wkv_state
wkv_state[1,0].carry @ B -> logits
wkv_state[1,1].read @ B -> logits @ B
value[0,{state_head}] @ B -> logits
value[0,1] @ B -> value[2,1] @ B directly
(value[0,0] @ B, mlp[1] @ B) -> logits @ B directly
value[0,1] @ B -> first_value[{layer},1] @ B -> logits freezing wkv_state
value[0,0] @ B -> logits freezing first_value
value[0,0] @ B -> logits freezing mixer_out[0], first_value[1]
first_value[2,{state_head}] @ B -> logits
first_value[{layer},1] @ B -> bonus[2,1] @ B
value[0,1].write @ B -> wkv_state[0,1] @ END
value[0,1] @ B -> (wkv_state[1,1] @ END, wkv_state[2,1] @ B+1) freezing wkv_state[0]
wkv_in[0].value @ A -> first_value[2,0] @ A freezing resid[1]
embed @ B -> first_value[1] @ B -> wkv_state[2] @ END
key[1,0].write @ B -> logits
key[1,0].erase @ B+1 -> wkv_state[1,0] @ END -> logits
rate[{layer},1].write @ B -> bonus[2,1] @ B+1
rate[0,1].erase @ B -> logits freezing bonus
decay[1,0] @ B+1 -> logits freezing gate
receptance[1,{state_head}] @ END -> logits freezing wkv_state
receptance[2,0] @ END -> logits freezing bonus
shift_tap[1,1].decay @ B+1 -> wkv_state[1] @ END
shift_tap[0,1].rate @ B+1 -> logits freezing mlp
shift_tap[1,{lag}].gate @ B+1 -> logits
shift_tap[2,1].receptance @ END -> logits
wkv_in[1] @ B -> logits freezing wkv_in.value, key
wkv_in[{layer}].rate @ B -> logits freezing rate.write
embed @ B -> logits freezing wkv_state
embed @ A -> logits freezing value, key, rate, decay
wkv_out[1,0] @ END -> logits directly
bonus[1] @ B -> mlp[2] @ B+1 directly
gate[1] @ B -> logits directly except mixer_out[2]
mixer_out[0] @ A -> logits freezing mixer_out[1], shift_tap[2,0]
resid[1] @ B -> resid[2] @ END
resid_mid[1] @ B -> mlp_in[1] @ B -> mlp_hidden[2] @ END -> logits
mlp_tap[1,1].key @ B+1 -> logits @ B+2 freezing wkv_in
mlp_hidden[0] @ B -> logits @ B+1 freezing shift_in
(value[0,0] @ B, wkv_state[1,1] @ B+1, mlp[0] @ A) -> logits freezing wkv_state[2]
x[1] @ B -> h[2] @ END freezing g, h[1] except g[2]
""".strip().splitlines()

HYBRID = """
embed -> logits
ssm_state[0] @ B+1 -> logits freezing ssm_state
ssm_state[2] @ B -> logits freezing head
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state, head
head[1,{head}] @ {pos} -> logits freezing ssm_state
head[{layer},2].k @ B -> logits
head[1] @ B -> ssm_state[2] @ END
ssm_state[0] @ B -> head[{layer},3].q @ END freezing ssm_state[2]
ssm_in[0].value @ A -> head[1,1].v @ A -> ssm_state[2] @ B+1 -> head[3,0].q @ END -> logits freezing ssm_state
conv_in[0] @ B -> (head[1,0].k @ B+1, ssm_in[2] @ B+2) freezing mlp -> logits freezing head except head[3]
conv_tap[2,{lag}] @ B+1 -> head[3,2].v @ B+1
(head[1,0] @ B, ssm_state[2] @ B+1, gate[0] @ A) -> logits freezing ssm_state[0], head[3,1]
head[1,3].pattern @ END -> logits directly except mixer_out[2]
ssm_out[0] @ B -> resid[3] @ B directly
ssm_in[2].delta @ B -> logits freezing ssm_state except ssm_state[2]
embed @ B -> logits freezing ssm_in.B, head.v, gate
attn[1] @ B -> mixer_out[2] @ B+1 freezing conv_tap[2,1]
mlp[{layer}] @ B -> logits freezing mixer_out
resid_mid[2] @ B -> mlp[3] @ END
resid[{layer}] @ END -> resid_mid[3] @ END
ssm_state[0].carry @ A -> (ssm_state[2].read @ END, head[3,0].k @ B)
ssm_in[0].skip @ B -> mlp[0] @ B
x[0] @ A -> h[2] @ END freezing g, head, head[1].q except g[2], head[1,0], head[1,1].q
""".strip().splitlines()

CONVOLUTIONS = """
embed -> logits
input_gate[0] @ B -> logits
conv_value[0] @ B -> logits freezing input_gate
gate[{layer}] @ END -> logits directly
conv_in[0] @ A -> logits freezing conv_tap[0,0]
conv_in[0] @ B -> (head[1,0].k @ B+1, conv_out[2] @ END) freezing mlp -> logits freezing head
conv_tap[2,{lag}] @ END -> logits
conv_tap[0,{lag}] @ B+1 -> head[1,2].v @ B+1
conv_tap[0,3] @ B+3 -> conv_out[0] @ B+3
conv_out[0] @ B -> mixer_out[2] @ {pos} freezing head
head[1,{head}] @ {pos} -> logits freezing conv_in
head[1,3].pattern @ END -> logits directly except mixer_out[2]
(head[1,0] @ B, conv_in[2] @ B+1, gate[0] @ A) -> logits freezing input_gate[2]
embed @ B -> logits freezing input_gate, gate, head.v
mixer_out[0] @ A -> resid[2] @ {pos} freezing mlp
mlp[{layer}] @ B -> logits freezing mixer_out
x[0] @ A -> o[2] @ A+3 freezing g, head except g[2], head[1,0]
""".strip().splitlines()

GRIFFIN = """
embed -> logits
ssm_state[0] @ B+1 -> logits freezing ssm_state
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state, head
ssm_state[0].carry @ A -> (ssm_state[2].read @ END, head[1,0].k @ B)
ssm_in[0].value @ A -> head[1,1].v @ A -> ssm_state[2] @ B+1 -> logits freezing ssm_state
ssm_in[2].recurrent_gate @ B -> logits
ssm_in[0] @ B -> logits freezing recurrent_gate
input_gate[{layer}] @ B -> logits freezing ssm_state except ssm_state[2]
recurrent_gate[0] @ B -> ssm_state[0] @ B+2 freezing input_gate
conv_tap[2,{lag}] @ B+1 -> ssm_state[2] @ END
ssm_out[0] @ B -> resid[1] @ B directly
gate[0] @ B -> logits directly except mixer_out[2]
head[1] @ B -> ssm_state[2] @ END
head[1,{head}] @ {pos} -> logits freezing ssm_state
mlp[{layer}] @ B -> logits freezing mixer_out
embed @ B -> logits freezing ssm_in.input_gate, head.v, gate
(head[1,0] @ B, ssm_state[2] @ B+1, gate[0] @ A) -> logits freezing ssm_state[0], head[1,1]
x[0] @ A -> h[2] @ END freezing g, head except g[2], head[1,0]
""".strip().splitlines()

DUAL = """
ssm_state[0,1] @ B+1 -> logits freezing ssm_state
ssm_state[{layer}] @ {pos} -> logits freezing ssm_state, head
ssm_state[2,{head}] @ B -> logits freezing head
head[1,{head}] @ {pos} -> logits freezing ssm_state
head[1] @ B -> ssm_state[2,0] @ END
ssm_state[0] @ B -> head[{layer},3].q @ END freezing ssm_state[2]
ssm_in[0].value @ A -> head[1,1].v @ A -> ssm_state[2] @ B+1 -> logits freezing ssm_state
conv_tap[2,{lag}] @ B+1 -> ssm_out[2,1] @ B+1
(head[1,0] @ B, ssm_state[2,3] @ B+1, gate[0] @ A) -> logits freezing ssm_state[0], head[1,1]
head[1,3].pattern @ END -> logits directly except mixer_out[2]
ssm_out[0,2] @ B -> resid[1] @ B directly
delta[2,{head}] @ B -> logits freezing ssm_state except ssm_state[2,0], ssm_state[2,1]
embed @ B -> logits freezing ssm_in.B, head.v, gate
embed @ B -> logits freezing delta, head.pattern
attn[1] @ B -> mixer_out[2] @ B+1 freezing conv_tap[2,1]
mixer_out[0] @ B -> mixer_out[2] @ {pos}
ssm_state[0,0].carry @ A -> (ssm_state[2,1].read @ END, head[1,0].k @ B)
x[0] @ A -> h[2,0] @ END freezing g, head, head[1].q except g[2], head[1,0], head[1,1].q
""".strip().splitlines()

IN_PARALLEL = """
ssm_state[1,0] @ B -> logits freezing head[1]
head[1,0] @ B -> mixer_out[2] @ END
resid[1] @ B -> resid_mid[1] @ END freezing ssm_state[1], head[1,0]
(head[1,2] @ B, ssm_state[1,2] @ B) -> logits directly except mixer_out[2], attn[2]
head[{layer},{head}] @ END -> logits freezing mixer_out
embed -> (attn[2] @ END, mixer_out[2] @ END) freezing attn[1]
""".strip().splitlines()

BESIDE = """
experts[1] @ B -> logits freezing head
resid_mid[{layer}] @ B -> logits freezing experts
mlp[0] @ END -> experts[2] @ END directly
experts[0] @ A -> mlp[1] @ A directly
head[1,0] @ B -> (experts[3] @ END, mlp[3] @ END) freezing ssm_state
""".strip().splitlines()

SHARED = """
embed @ A -> logits
embed @ A -> head[3,{head}].k @ A freezing mixer_out
resid[0] @ A -> head[3,{head}].v @ A
embed -> head[{layer},0].q @ B directly
head[1,{head}] @ B -> logits freezing ssm_state
head[1,0].k @ A -> mlp[1] @ END
head[1,2].v @ A -> ssm_state[1,{head}] @ {pos}
head[1,0] @ B -> logits directly except mixer_out[2]
attn[1] @ B -> logits freezing mlp[3]
mlp[1] @ B -> conv_in[1] @ B -> logits
mlp[{layer}] @ B -> logits freezing ssm_state except ssm_state[1], ssm_state[3]
mlp[3] @ B -> (gate[3] @ B, delta[3,1] @ B)
(mlp[1] @ B, embed @ A, head[3,0] @ END) -> logits freezing attn[1]
(embed @ A, head[3,1] @ B) -> logits freezing gate[1]
(embed @ A, mlp[3] @ B) -> logits freezing gate[1]
ssm_state[0] @ B -> head[1,{head}].pattern @ END -> logits
resid[2] @ B -> mlp[3] @ END freezing mixer_out
ssm_in[1].value @ B -> mixer_out[1] @ END freezing attn, mlp
embed @ B -> logits freezing head, attn, mlp
""".strip().splitlines()

DELTA = """
embed -> logits
ssm_state[0,2] @ B+1 -> logits freezing ssm_state
ssm_state[2] @ B -> logits freezing head, ssm_state
ssm_state[{layer},1] @ {pos} -> logits freezing ssm_state, head
ssm_state[0,1].read @ B -> logits
ssm_state[0].carry @ B -> (ssm_state[0,1].read @ END, ssm_state[2,0].carry @ B+2)
ssm_in[0] @ B -> logits freezing ssm_state except ssm_state[0,1]
ssm_in[2].key @ B -> ssm_state[2,2] @ B+2
ssm_in[2].erase @ B -> ssm_state[2] @ B+2 freezing beta
ssm_in[0].key @ B -> ssm_state[0,1] @ B freezing ssm_in[0].erase
ssm_in[0].query @ 3 -> logits @ END-1
ssm_in[2].query @ END -> logits directly
beta[0,1] @ A -> logits freezing ssm_state except ssm_state[0,1]
beta[0] @ B -> ssm_state[0] @ END
beta[{layer},0].erase @ B -> logits freezing beta
beta[0,2].write @ B -> ssm_out[0,2] @ B+1 freezing decay
decay[2,0] @ B -> logits freezing ssm_state except ssm_state[2,0]
resid[0] @ B -> decay[0,1] @ B -> ssm_state[2] @ END -> logits freezing ssm_state
conv_in[2] @ B -> ssm_in[2] @ B+1
conv_in[0] @ B -> logits freezing ssm_in[0].value, ssm_in.key, ssm_in.query
conv_tap[2,{lag}] @ B+1 -> ssm_state[2,1] @ END
head[1,{head}] @ {pos} -> logits freezing ssm_state
ssm_state[0] @ B -> head[1,2].q @ END freezing ssm_state[2]
(head[1,0] @ B, ssm_state[2,1] @ B+1, gate[0] @ A) -> logits freezing ssm_state[0]
ssm_out[0,1] @ B -> resid[3] @ B directly
ssm_out[0] @ B -> ssm_out[2,{head}] @ END freezing head
attn[1] @ B -> mixer_out[2] @ B+1 freezing conv_tap[2,1]
resid_mid[2] @ B -> mlp[2] @ B
x[0] @ A -> h[2,0] @ END freezing g, head[1].q except g[2], head[1,1].q
""".strip().splitlines()
