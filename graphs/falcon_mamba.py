"""FalconMamba: Mamba with RMS norms on the step size, B and C. These norms are inside the edges from ssm_in to its readers."""

from circuitry.architecture import selective

ARCHITECTURE = selective(
    name="falcon_mamba",
    model_types=("falcon_mamba",),
    citations=("Zuo et al. 2024, Falcon Mamba: The First Competitive Attention-free 7B Language Model, arXiv:2410.05355",),
    example={"layer": 64, "lag": 4},
)
