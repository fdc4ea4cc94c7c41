"""Feature dashboard: top contexts, a browser page of matches, scores by judges, and figure 5."""

from .browser import browser
from .contexts import Context, Profile, profiles, top_contexts
from .figure import figure5
from .judge import Judge, judge
from .question import COMPLEXITY, MONOSEMANTIC, MONOSEMANTICITY, Question, Rubric
from .score import Estimate, contexts_of, estimate, judge_features, judge_layers, pick, uninterpretable
from .study import Features, study

__all__ = [
    "COMPLEXITY",
    "MONOSEMANTIC",
    "MONOSEMANTICITY",
    "Context",
    "Estimate",
    "Features",
    "Judge",
    "Profile",
    "Question",
    "Rubric",
    "browser",
    "contexts_of",
    "estimate",
    "figure5",
    "judge",
    "judge_features",
    "judge_layers",
    "pick",
    "profiles",
    "study",
    "top_contexts",
    "uninterpretable",
]
