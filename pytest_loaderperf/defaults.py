"""What holds where the user sets nothing, and what may be chosen: for light settings and heavy options alike."""

from __future__ import annotations

DEFAULT_BUDGET_SECONDS = 10.0
DEFAULT_MAX_BUDGET_SECONDS = 60.0  # of a claim whose interval already lies beyond its threshold
DEFAULT_ALPHA = 0.001
POLICIES = ("pass", "fail", "leaning")  # what an INCONCLUSIVE does to its test
DEFAULT_POLICY = "pass"
