"""Feature dashboard: top contexts, a page of matches, scores by scorers, and figure 5."""

from .contexts import Context, Profile, profiles, top_contexts
from .figure import figure5
from .page import write_dashboard
from .question import COMPLEXITY, MONOSEMANTIC, MONOSEMANTICITY, Question, Rubric
from .score import Estimate, contexts_of, estimate, pick, score_features, score_layers, uninterpretable
from .scorer import Scorer, scorer
from .study import Features, study

__all__ = [
    "COMPLEXITY",
    "MONOSEMANTIC",
    "MONOSEMANTICITY",
    "Context",
    "Estimate",
    "Features",
    "Profile",
    "Question",
    "Rubric",
    "Scorer",
    "contexts_of",
    "estimate",
    "figure5",
    "pick",
    "profiles",
    "score_features",
    "score_layers",
    "scorer",
    "study",
    "top_contexts",
    "uninterpretable",
    "write_dashboard",
]
