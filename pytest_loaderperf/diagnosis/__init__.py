"""Why a loader is slow: passes observe it, a ledger keeps what they saw, rules name the mistakes in it."""

from pytest_loaderperf.diagnosis.advice import Advice
from pytest_loaderperf.diagnosis.comparison import Comparison, Difference, compared
from pytest_loaderperf.diagnosis.diagnosis import Diagnosis, diagnose
from pytest_loaderperf.diagnosis.findings import Finding, Findings, Gain, Rule
from pytest_loaderperf.diagnosis.growth import Growth, growth
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules import RULES, findings_of

__all__ = [
    "RULES",
    "Advice",
    "Comparison",
    "Diagnosis",
    "Difference",
    "Finding",
    "Findings",
    "Gain",
    "Growth",
    "Ledger",
    "Rule",
    "compared",
    "diagnose",
    "findings_of",
    "growth",
]
