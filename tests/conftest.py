"""Settings of the whole test run."""

from __future__ import annotations

import os

from hypothesis import settings

from support.browsing import chromium, show
from support.refusals import offline

__all__ = ["chromium", "offline", "show"]

# Tests write nothing into the user's cache; those of the cache name a folder.
os.environ["CIRCUITRY_CACHE"] = "off"

# The same examples on every run, so that a red test stays red; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.register_profile("explore-some", deadline=None, max_examples=150)
settings.load_profile("fixed")
