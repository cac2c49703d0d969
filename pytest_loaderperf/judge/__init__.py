"""The judge layer: sequential tests on records, without a clock."""

from pytest_loaderperf.judge.claim import (
    ExactTest,
    Outcome,
    PercentileTest,
    Ruling,
    SignTest,
    Test,
    Verdict,
    claim_alpha,
    quantile,
)
from pytest_loaderperf.judge.interval import CONFIDENCE, quantile_interval

__all__ = [
    "CONFIDENCE",
    "ExactTest",
    "Outcome",
    "PercentileTest",
    "Ruling",
    "SignTest",
    "Test",
    "Verdict",
    "claim_alpha",
    "quantile",
    "quantile_interval",
]
