"""Every threshold by which something counts as found, in one place; docs/statistics.md says why each is what it is."""

LEVEL = 0.95
"""Confidence of the bootstrap intervals of means, shares and differences."""
RESAMPLES = 2000
"""Bootstrap resamples behind such an interval."""
SIGNIFICANT = 0.05
"""An effect is significant, and has a star, if its q (p after false-discovery control over the table) is below this."""
DOES_TASK = 0.25
"""A model does a task whose answer is in the prompt if the answer is on top in at least this share of the clean prompts; results
below it are labelled "below threshold"."""
KEY_EFFECT = 0.05
"""A suite names a component if patching it alone has at least this share of the whole effect, and q below SIGNIFICANT."""
MOST_KEYS = 8
"""How many components a suite names of one table, the strongest."""
WRITE_FLOOR = 0.01
"""A position is a write position of a token if it carries at least this share of the whole effect, and q is below SIGNIFICANT."""
CARRIES = 0.10
"""An offset carries the token if the whole interval of its share lies above this, and does not if it lies below."""
NEAR_ZERO = 0.05
"""How far from zero a difference of MPPC may be and still count as none. The paper does not say what it took."""
FEATURES_INSIDE = 0.9
"""The share of the features whose differences of MPPC lie in the interval that is reported (the paper's section 4.4)."""
EFFECTS_APART = 0.01
"""Matched features act differently if their normalized effects differ by at least this, and q is below SIGNIFICANT."""
OUTLYING = 3.5
"""An example is marked if its robust z (the distance from the median in units of 1.4826 times the median absolute deviation) is at
least this far from zero, as Iglewicz and Hoaglin (1993) propose."""
