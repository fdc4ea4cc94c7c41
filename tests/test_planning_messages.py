"""What the planner says of paths that cannot be run or would do nothing, word for word, and where its caret stands."""

from __future__ import annotations

import pytest

import circuitry as ct
from circuitry.paths import Node
from circuitry.planning import plan

GRAPHS = {
    "mamba": ct.graph("mamba", layer=3, lag=3),
    "gpt_neox": ct.graph("gpt_neox", layer=3, head=2),
    "gpt2": ct.graph("gpt2", layer=2, head=2),
}
WHERE, LENGTH = {"A": [2, 3], "B": [5, 6], "END": [9, 9]}, 10

# Each block is one whole message; its second line, without the indent, is the path that was planned.
MAMBA = """
mamba has no node 'xyz'
    xyz[1] @ B -> logits
    ^
known here: conv_in, conv_tap, embed, gate, logits, mixer_out, resid, ssm_in, ssm_out, ssm_state

mamba has no node 'ssm_stat'
    ssm_stat[1] -> logits
    ^
did you mean 'ssm_state'?

mamba has no node 'head'
    head[0,0] -> logits
    ^
known here: conv_in, conv_tap, embed, gate, logits, mixer_out, resid, ssm_in, ssm_out, ssm_state

nothing flows from logits to resid[1]
    mixer_out[0] -> logits -> resid[1]
                    ^
the model runs the other way: resid[1] -> logits

say which 'h'
    h -> logits
    ^
for every one, leave it open: ssm_state[{layer}]

layer 3 of 'h' does not exist
    h[3] -> logits
    ^
mamba has layers 0 to 2 there

layer 4 of 'resid' does not exist
    resid[4] -> logits
    ^
mamba has layers 0 to 3 there

say which 'conv_tap'
    conv_tap[0] -> logits
    ^
for every one, leave it open: conv_tap[{layer},{lag}]

lag 3 of 'conv_tap' does not exist
    conv_tap[0,3] -> logits
    ^
mamba has lags 0 to 2 there

the logits are the end of the model; nothing flows from them
    logits -> embed
    ^
start at a node such as embed

'h' has 1 index, not 2
    h[0] -> logits freezing h[{layer},0]
                            ^
it is written ssm_state[{layer}]

'ssm_state' has no port 'rea'
    h[0].rea -> logits
    ^
did you mean 'read'?

'gate' has no port 'read'
    gate[0].read -> logits
    ^
write gate without a port

h.carry cannot be held at its clean value
    h[0].read -> logits freezing h.carry
                                 ^
freeze ssm_state whole

logits cannot be held at its clean value
    h[0] -> logits freezing logits
                            ^
freeze the nodes before it instead

h.read cannot be held at its clean value
    h[0] -> logits freezing h except h.read
                                     ^
freeze ssm_state whole

'ssm_in' has no port 'valu'
    h[0] -> logits freezing ssm_in.valu
                            ^
did you mean 'value'?

nothing flows from h[1] to gate[1]
    h[1] -> gate[1]
    ^
they lie side by side; what follows ssm_state[1]: ssm_state[1].read, ssm_state[1].carry

nothing flows from h[1].read to h[1].carry
    h[1].read -> h[1].carry
    ^
the model runs the other way: ssm_state[1].carry -> ssm_state[1].read

3 comes before 5: nothing flows back in the text
    h[1] @ 5 -> logits @ 3
           ^
swap the two positions

out of reach: from conv_in[0] to conv_tap[0,1] information moves exactly 1 token, and 5 is 0 after 5
    conv_in[0] @ 5 -> conv_tap[0,1] @ 5
                 ^
choose positions within that reach, or leave a node that carries it further unfrozen

out of reach: from conv_in[0] to conv_tap[0,2] information moves exactly 2 tokens, and B+1 is 1 after B
    conv_in[0] @ B -> conv_tap[0,2] @ B+1
                 ^
choose positions within that reach, or leave a node that carries it further unfrozen

out of reach: from h[1].carry to h[1].read information moves at least 1 token, and B is 0 after B
    h[1].carry @ B -> h[1].read @ B
                 ^
choose positions within that reach, or leave a node that carries it further unfrozen

out of reach: from conv_in[0] to ssm_in[0] information moves 0 to 2 tokens, and B+3 is 3 after B
    conv_in[0] @ B -> ssm_in[0] @ B+3
                 ^
choose positions within that reach, or leave a node that carries it further unfrozen

no unfrozen node between conv_tap[0,1] and ssm_in[0] moves information from B to B+1: the effect would be exactly zero
    conv_tap[0,1] @ B -> ssm_in[0] @ B+1
    ^
choose the same position for both ends

directly freezing mixer_out[0] cuts every path from h[0] to logits: the effect would be exactly zero
    h[0] @ 4 -> logits directly freezing mixer_out[0]
    ^
leave one that connects them live, for example mixer_out[0]

freezing mixer_out, gate cuts every path from h[0] to logits: the effect would be exactly zero
    h[0] @ 4 -> logits freezing mixer_out, gate except gate[0]
    ^
leave one that connects them live, for example: freezing mixer_out, gate except gate[0], mixer_out[0]

freezing resid cuts every path from h[0] to logits: the effect would be exactly zero
    h[0] -> logits freezing resid
    ^
leave one that connects them live
"""

MAMBA_WITH_A_TASK = """
the task names no position 'C'
    h[0] @ C -> logits
           ^
known here: A, B, END

the task names no position 'EN'
    h[0] @ EN -> logits
           ^
did you mean 'END'?

A+7 is past the end of the prompts (10 tokens)
    h[1] @ A+7 -> logits
           ^
move it inside

A-3 is before the first token
    h[1] @ A-3 -> logits
           ^
move it inside

10 is past the end of the prompts (10 tokens)
    h[1] @ 10 -> logits
           ^
move it inside

11 is past the end of the prompts (10 tokens)
    h[1] @ A -> h[2] @ 11 -> logits
                       ^
move it inside

END+1 is past the end of the prompts (10 tokens)
    h[1] -> logits @ END+1
                     ^
move it inside

c is not frozen on this leg, so there is nothing to spare
    h[1] @ A -> logits freezing h except c
                                         ^
drop it from 'except'

h is not frozen on this leg, so there is nothing to spare
    h[1] @ A -> logits directly except h
                                       ^
drop it from 'except'

logits is both the start and the end of this leg
    h[1] @ A -> logits freezing h except h[0] -> logits
                ^
name two different nodes

A comes before B: nothing flows back in the text
    h[1] @ B -> logits @ A
           ^
swap the two positions

A comes before B: nothing flows back in the text
    h[1] @ B -> h[2] @ A -> logits
           ^
swap the two positions

B comes before B+1: nothing flows back in the text
    h[1] @ B+1 -> h[2] @ B -> logits
           ^
swap the two positions

out of reach: from c[1] to logits information moves 0 to 2 tokens, and END is 3 after B
    c[1] @ B -> logits freezing h
           ^
choose positions within that reach, or leave a node that carries it further unfrozen

freezing h, conv_in cuts every path from c[0] to h[2]: the effect would be exactly zero
    c[0] @ A -> h[2] @ A+1 freezing h, conv_in
    ^
leave one that connects them live, for example: freezing h, conv_in except conv_in[2]

no unfrozen node between gate[2] and logits moves information from A to END: the effect would be exactly zero
    gate[2] @ A -> logits
    ^
choose the same position for both ends

no unfrozen node between gate[0] and logits moves information from A to END: the effect would be exactly zero
    gate[0] @ A -> logits directly
    ^
spare one that does, for example: directly except mixer_out[1]

no unfrozen node between gate[0] and logits moves information from A to END: the effect would be exactly zero
    gate[0] @ A -> logits freezing h, conv_in
    ^
choose the same position for both ends, or spare more of what is held

out of reach: from c[1] to logits information moves 0 to 2 tokens, and END is 6 after A
    c[1] @ A -> logits freezing h, gate except gate[2]
           ^
choose positions within that reach, or leave a node that carries it further unfrozen
"""

GPT_NEOX = """
gpt_neox has no node 'resid_mid'
    resid_mid[0] -> logits
    ^
known here: attn, embed, head, logits, mlp, resid

gpt_neox has no node 'h'
    h[0] -> logits
    ^
known here: attn, embed, head, logits, mlp, resid

'mlp' has 1 index, not 2
    mlp[0,1] -> logits
    ^
it is written mlp[{layer}]

'logits' has 0 indices, not 1
    mlp[0] -> logits[3]
              ^
it is written logits

'head' has 2 indices, not 3
    head[0,0,0] -> logits
    ^
it is written head[{layer},{head}]

say which 'head'
    head[1] -> logits
    ^
for every one, leave it open: head[{layer},{head}]

head 2 of 'head' does not exist
    head[0,2] -> logits
    ^
gpt_neox has heads 0 to 1 there

layer 3 of 'mlp' does not exist
    mlp[{layer}] -> logits freezing mlp[3]
                                    ^
gpt_neox has layers 0 to 2 there

'head' has no port 'w'
    head[0,0].w -> logits
    ^
known here: k, pattern, q, v, z

'head' has no port 'patern'
    head[0,0].patern -> logits
    ^
did you mean 'pattern'?

'mlp' has no port 'q'
    mlp[0].q -> logits
    ^
write mlp without a port

the axis {l} is a layer and a head at once
    head[{l},{l}] -> logits
    ^
give the two different names

the axis {l} is a layer and a position at once
    head[{l},{h}] @ {l} -> logits
    ^
give the two different names

the axis {l} is a layer and a head at once
    mlp[{l}] -> logits freezing head[0,{l}]
                                ^
give the two different names

nothing flows from mlp[1] to mlp[0]
    mlp[1] -> mlp[0]
    ^
the model runs the other way: mlp[0] -> mlp[1]

mlp[1] is both the start and the end of this leg
    mlp[1] -> mlp[1]
    ^
name two different nodes

head[0,0] is both the start and the end of this leg
    head[0,0].z -> head[0,0]
    ^
name two different nodes

mlp[1] is both the start and the end of this leg
    (mlp[0], mlp[1]) -> mlp[1]
             ^
name two different nodes

nothing flows from head[0,0] to head[0,1].q
    head[0,0] -> head[0,1].q
    ^
they lie side by side; what follows head[0,0]: attn[0]

nothing flows from head[0,0] to mlp[0]
    head[0,0] -> mlp[0]
    ^
they lie side by side; what follows head[0,0]: attn[0]

nothing flows into embed on this leg
    mlp[0] -> (logits, embed)
                       ^
drop it from the set

nothing flows into mlp[0] on this leg
    mlp[0] -> mlp[1] -> (logits, mlp[0])
                                 ^
drop it from the set

nothing flows into head[0,1].q on this leg
    (mlp[0], head[0,0]) -> (head[1,0].q, head[0,1].q, logits)
                                         ^
drop it from the set

nothing flows from mlp[2] to mlp[1]
    (mlp[0], mlp[2]) -> mlp[1]
             ^
the model runs the other way: mlp[1] -> mlp[2]

nothing flows into resid[2] @ 3 on this leg
    mlp[0] @ 4 -> (logits, resid[2] @ 3)
                           ^
drop it from the set

freezing resid[2] cuts every path from mlp[0] to logits: the effect would be exactly zero
    mlp[0] -> logits freezing resid[2]
    ^
leave one that connects them live, for example resid[2]

freezing resid, mlp cuts every path from mlp[0] to logits: the effect would be exactly zero
    mlp[0] -> logits freezing resid, mlp
    ^
leave one that connects them live

no unfrozen node between head[0,1] and head[1,0].k moves information from B to B+1: the effect would be exactly zero
    head[0,1] @ B -> head[1,0].k @ B+1 freezing head -> logits
    ^
choose the same position for both ends, or spare more of what is held
"""

GPT_NEOX_WITH_A_TASK = """
no unfrozen node between embed and logits moves information from A to END: the effect would be exactly zero
    embed @ A -> logits freezing head
    ^
spare one that does, for example: freezing head except head[0,0]

no unfrozen node between embed and logits moves information from A to END: the effect would be exactly zero
    embed @ A -> logits freezing head, mlp except mlp[1]
    ^
spare one that does, for example: freezing head, mlp except mlp[1], head[0,0]

no unfrozen node between embed and logits moves information from A to END: the effect would be exactly zero
    embed @ A -> logits freezing attn, mlp
    ^
spare one that does, for example: freezing attn, mlp except attn[0]

head[0,1].q is not frozen on this leg, so there is nothing to spare
    embed @ A -> logits @ B freezing head[0], head[1], head[2] except head[0,1].q
                                                                      ^
drop it from 'except'

no unfrozen node between embed and head[1,0].k moves information from A to B: the effect would be exactly zero
    embed @ A -> head[1,0].k @ B directly
    ^
spare one that does, for example: directly except attn[0]

no unfrozen node between embed and head[2,0].k moves information from A to B: the effect would be exactly zero
    embed @ A -> head[2,0].k @ B directly freezing head
    ^
choose the same position for both ends, or spare more of what is held

no unfrozen node between mlp[2] and logits moves information from A to END: the effect would be exactly zero
    mlp[2] @ A -> logits
    ^
choose the same position for both ends

attn is not frozen on this leg, so there is nothing to spare
    embed @ A -> logits @ B freezing head except attn
                                                 ^
drop it from 'except'
"""

GPT2 = """
nothing flows from attn[0] to head[0,1]
    head[0,0] -> attn[0] -> head[0,1]
                 ^
the model runs the other way: head[0,1] -> attn[0]

nothing flows from mlp[0] to resid_mid[0]
    mlp[0] -> resid_mid[0]
    ^
the model runs the other way: resid_mid[0] -> mlp[0]

freezing resid_mid cuts every path from attn[0] to logits: the effect would be exactly zero
    attn[0] -> logits freezing resid_mid
    ^
leave one that connects them live
"""


def blocks(graph: str, messages: str) -> list[tuple[str, str]]:
    return [(graph, message) for message in messages.strip("\n").split("\n\n")]


@pytest.mark.parametrize(("graph", "message"), blocks("mamba", MAMBA) + blocks("gpt_neox", GPT_NEOX) + blocks("gpt2", GPT2))
def test_without_a_task_the_planner_says(graph: str, message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], GRAPHS[graph])
    assert str(caught.value) == message


@pytest.mark.parametrize(("graph", "message"), blocks("mamba", MAMBA_WITH_A_TASK) + blocks("gpt_neox", GPT_NEOX_WITH_A_TASK))
def test_with_a_task_the_planner_says(graph: str, message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], GRAPHS[graph], where=WHERE, length=LENGTH, sweep=["A", "B"])
    assert str(caught.value) == message


def test_a_task_without_positions_knows_none() -> None:
    with pytest.raises(ct.PathError) as caught:
        plan("mlp[0] @ B -> logits", GRAPHS["gpt2"], where={})
    assert (caught.value.problem, caught.value.hint) == ("the task names no position 'B'", "known here: none")


def test_python_cannot_smuggle_in_an_index_below_zero() -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(Node("mlp", (-1,)) >> Node("logits"), GRAPHS["gpt2"])
    assert caught.value.problem == "layer -1 of 'mlp' does not exist"


def test_the_caret_stands_under_the_canonical_text() -> None:
    """However the path was spaced or built, the message shows one spelling and points into it."""
    with pytest.raises(ct.PathError) as caught:
        plan("mlp [ 0 ]->(  logits,embed )", GRAPHS["gpt2"])
    assert str(caught.value).split("\n")[1:3] == ["    mlp[0] -> (logits, embed)", "                       ^"]
