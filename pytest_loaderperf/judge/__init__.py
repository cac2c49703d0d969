"""The judge layer: sequential tests on records, without a clock."""

from pytest_loaderperf.judge.claim import (
    CONFIRM_ALPHA,
    ExactTest,
    Outcome,
    PercentileTest,
    Ruling,
    SequentialTest,
    SignTest,
    Verdict,
    beyond,
    claim_alpha,
    quantile,
)
from pytest_loaderperf.judge.course import Course
from pytest_loaderperf.judge.interval import CONFIDENCE, quantile_interval
from pytest_loaderperf.judge.pairs import PairTest
from pytest_loaderperf.judge.power import seconds_to_settle
from pytest_loaderperf.judge.ratio import AGREE_ALPHA, SLICES, SUMS, WORK, RatioTest
from pytest_loaderperf.judge.skew import SkewTest, beside_others

__all__ = [
    "AGREE_ALPHA",
    "CONFIDENCE",
    "CONFIRM_ALPHA",
    "SLICES",
    "SUMS",
    "WORK",
    "Course",
    "ExactTest",
    "Outcome",
    "PairTest",
    "PercentileTest",
    "RatioTest",
    "Ruling",
    "SequentialTest",
    "SignTest",
    "SkewTest",
    "Verdict",
    "beside_others",
    "beyond",
    "claim_alpha",
    "quantile",
    "quantile_interval",
    "seconds_to_settle",
]
