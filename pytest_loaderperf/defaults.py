"""Default values, and the values that may be chosen. Light to import."""

from __future__ import annotations

DEFAULT_BUDGET_SECONDS = 10.0
DEFAULT_MAX_BUDGET_SECONDS = 60.0  # of a claim whose interval does not contain its threshold
DEFAULT_ALPHA = 0.001
DEFAULT_TIMEOUT_SECONDS = 120.0  # longer than loaders take to build in practice, shorter than a CI job's time-out
DEFAULT_DOCTOR_SECONDS = 3.0  # of each pass over a loader that failed a claim
DEFAULT_BENCH_SECONDS = 5.0
DEFAULT_KEPT_RESULTS = 2000  # in the store: years of daily runs, in tens of megabytes
DEFAULT_DIAGNOSIS_SECONDS = 30.0  # of the doctor: to observe, and to try changes
DEFAULT_CLAIMS = 50  # of each kind that is calibrated
DEFAULT_DEVICE = "cpu"
DEVICES = (DEFAULT_DEVICE, "cuda", "auto")
POLICIES = ("pass", "fail", "leaning")  # what an INCONCLUSIVE does to its test
DEFAULT_POLICY = "pass"
ALONE = "LOADERPERF_ALONE"  # environment variable: if set, a rank of a job measures by itself
