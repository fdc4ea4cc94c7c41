"""Mamba (S6): see ``circuitry.architecture.selective`` for its nodes and what each of them means."""

from circuitry.architecture import selective

GRAPH = selective(
    name="mamba",
    model_types=("mamba",),
    citations=("Gu & Dao 2023, Mamba, arXiv:2312.00752", "Wang et al. 2024, Towards Universality, section 3.2"),
    example={"layer": 24, "lag": 4},
)
