"""Feature dashboard: top contexts, a page of matches, scores by scorers, and figure 5."""

from .contexts import Context, Profile, profiles, top_contexts
from .custom_text import OnText, TextFeatures, text_features, write_text_page
from .figure import figure5
from .page import write_dashboard
from .promoted import Promoted, promoted
from .question import COMPLEXITY, MONOSEMANTIC, MONOSEMANTICITY, Question, Rubric
from .score import Estimate, contexts_of, estimate, pick, score_features, score_layers, uninterpretable
from .scorer import Scorer, scorer
from .source import Source
from .study import Features, study

__all__ = [
    "COMPLEXITY",
    "MONOSEMANTIC",
    "MONOSEMANTICITY",
    "Context",
    "Estimate",
    "Features",
    "OnText",
    "Profile",
    "Promoted",
    "Question",
    "Rubric",
    "Scorer",
    "Source",
    "TextFeatures",
    "contexts_of",
    "estimate",
    "figure5",
    "pick",
    "profiles",
    "promoted",
    "score_features",
    "score_layers",
    "scorer",
    "study",
    "text_features",
    "top_contexts",
    "uninterpretable",
    "write_dashboard",
    "write_text_page",
]
