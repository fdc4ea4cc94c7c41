"""Mamba (S6): a gated block that mixes tokens by a short causal convolution and by a selective state.

Names follow the paper's section 3.2: conv_in is x, ssm_in is c (after convolution and SiLU), ssm_state is h, gate is g, ssm_out
is s = C h + D c. The state has two readers: this token's read-out (port ``read``) and the next state (``carry``). ssm_in has five
readers: the value written (``value``), the step size (``delta``), the write and read-out matrices (``B``, ``C``) and the skip
connection (``skip``); the node without a port is all five. ``conv_tap[l,k] @ t`` is what the convolution at t sees of the token k
positions before it. A state is frozen by freezing what writes it (value, delta and B). That gives the same trajectory, bit for
bit, and stores no tensor the size of all states. C, skip and gate stay live.
"""

from circuitry.architecture import selective

ARCHITECTURE = selective(
    name="mamba",
    model_types=("mamba",),
    citations=("Gu & Dao 2023, Mamba, arXiv:2312.00752", "Wang et al. 2024, Towards Universality, section 3.2"),
    example={"layer": 24, "lag": 4},
)
