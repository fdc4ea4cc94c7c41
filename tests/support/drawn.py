"""Circuits and architectures that tests export and draw."""

from __future__ import annotations

import itertools
import math
import random

from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode

ARCHITECTURES = ("mamba", "gpt_neox", "gpt2", "llama")

MAMBA = Circuit(
    "Induction in a 4-layer Mamba",
    ("A", "B", "B+1", "...", "END"),
    (
        CircuitNode("conv_in[1]@A", "A", 1.0, -1.92, "conv_input"),
        CircuitNode("conv_in[1]@B", "B", 1.0, -2.31, "conv_input"),
        CircuitNode("ssm_in[1]@B+1", "B+1", 1.2, -3.4, "write_input"),
        CircuitNode("ssm_state[1]@B+1", "B+1", 1.4, -3.62, "state"),
        CircuitNode("ssm_state[2]@B+1", "B+1", 2.4, 0.41, "state"),
        CircuitNode("logits@END", "END", 4.0, math.nan, "logits"),
    ),
    (
        CircuitEdge("conv_in[1]@A", "ssm_in[1]@B+1", -1.7, "lag 2"),
        CircuitEdge("conv_in[1]@B", "ssm_in[1]@B+1", -2.2, "lag 1"),
        CircuitEdge("ssm_in[1]@B+1", "ssm_state[1]@B+1", -3.1),
        CircuitEdge("ssm_state[1]@B+1", "ssm_state[2]@B+1", 0.2),
        CircuitEdge("ssm_state[1]@B+1", "logits@END", -3.6),
        CircuitEdge("ssm_state[2]@B+1", "logits@END", 0.4),
    ),
)

EFFECTS = (-0.4, -2.1, 0.35, -0.02)

TRANSFORMER = Circuit(
    "Induction in a 2-layer Transformer",
    ("A", "B", "B+1", "...", "END"),
    (
        CircuitNode("head[0,1]@B", "B", 0, -2.9, "head"),
        *(CircuitNode(f"head[1,{h}]@END", "END", 1, effect, "head") for h, effect in enumerate(EFFECTS)),
        CircuitNode("logits@END", "END", 2, -3.3, "logits"),
    ),
    (
        *(CircuitEdge("head[0,1]@B", f"head[1,{h}]@END", effect / 2, "k") for h, effect in enumerate(EFFECTS)),
        *(CircuitEdge(f"head[1,{h}]@END", "logits@END", effect) for h, effect in enumerate(EFFECTS)),
    ),
    "change of logit difference",
)

EMPTY = Circuit("Nothing", ("A", "B", "END"), (), ())


def large(seed: int) -> Circuit:
    """About as much as a picture should hold: 20 heads in 6 layers and 30 arrows, as in indirect object identification."""
    rng, positions = random.Random(seed), ("IO", "S1", "S2", "END")
    places = rng.sample([(layer, head) for layer in range(6) for head in range(12)], 20)
    nodes = [CircuitNode(f"head[{a},{b}]", rng.choice(positions), a, rng.gauss(0, 1), "head") for a, b in places]
    pairs = [(s, t) for s, t in itertools.permutations(nodes, 2) if s.depth < t.depth]
    edges = [CircuitEdge(s.name, t.name, rng.gauss(0, 1), rng.choice("qkv")) for s, t in rng.sample(pairs, 30)]
    return Circuit(f"Random circuit {seed}", positions, tuple(nodes), tuple(edges))
