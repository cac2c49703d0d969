"""The words of a verdict, whole."""

from __future__ import annotations

import math

import pytest

from pytest_loaderperf.judge import ExactTest, Outcome, Ruling, SignTest, Verdict
from pytest_loaderperf.report import explain, undecided


def verdict(ruling, **changes):
    ratio = {
        "claim": "throughput >= 0.97 * against.throughput",
        "unit": "1",
        "at_least": True,
        "left": 412_000.0,
        "left_unit": "samples/s",
        "right": 400_000.0,
        "counted": "pairs",
        "seconds": 1.25,
        "alpha": 0.0005,
    }
    return Verdict(**(ratio | changes), ruling=ruling)


RATIO_PASS = verdict(Ruling(Outcome.PASS, 1.03, 1.011, 1.049, 0.97, 37, 0.021))
RATIO_FAIL = verdict(Ruling(Outcome.FAIL, 0.903, 0.88, 0.921, 0.97, 1234, 0.00951), left=361_200.0, seconds=61.0)
RATIO_FEW = verdict(
    Ruling(Outcome.INCONCLUSIVE, 0.97, 0.0, math.inf, 0.97, 3, None), seconds=0.0102, settles_in_seconds=46.2
)
WIDE = Ruling(Outcome.INCONCLUSIVE, 0.981, 0.95, 1.013, 0.97, 240, 0.034)
RATIO_OPEN = verdict(WIDE, seconds=10.0, settles_in_seconds=33.2)
RATIO_HOPELESS = verdict(WIDE, seconds=10.0)
RATIO_ON_THE_THRESHOLD = verdict(Ruling(Outcome.INCONCLUSIVE, 0.9703, 0.95, 1.013, 0.97, 240, 0.034), policy="leaning")
BREACH = Ruling(Outcome.INCONCLUSIVE, 0.07, 0.04, 0.1, 0.97, 13, None)
RATIO_LEANING = verdict(BREACH, settles_in_seconds=21.0, policy="leaning")
NOTHING_SEEN = verdict(
    Ruling(Outcome.INCONCLUSIVE, math.nan, 0.0, math.inf, 0.97, 0, None), left=math.nan, policy="fail"
)
RATIO_UNCONFIRMED = verdict(Ruling(Outcome.INCONCLUSIVE, 1.0, 0.99, 1.01, 0.97, 15, 0.031), unconfirmed=Outcome.PASS)
LATENCY = verdict(
    Ruling(Outcome.FAIL, 0.0061, 0.0055, math.inf, 0.005, 640, 0.0312),
    claim="batch_latency.p99 <= 5.00 ms",
    unit="s",
    at_least=False,
    left=0.0061,
    left_unit="s",
    right=None,
    counted="batches",
)
MEMORY = verdict(
    Ruling(Outcome.PASS, 31_440_000.0, 31_440_000.0, 31_440_000.0, 62_880_000.0, 2, 0.0, exact=True),
    claim="peak_memory <= 60.0 MiB",
    unit="B",
    at_least=False,
    left=31_440_000.0,
    left_unit="B",
    right=None,
    counted="epochs",
)


@pytest.mark.parametrize(
    "verdict, stages, text",
    [
        (
            RATIO_PASS,
            {},
            """\
PASS: throughput >= 0.97 * against.throughput
  needed    at least 0.97 x
  measured  1.03 x, 95% interval 1.01 to 1.05
  figures   412,000 samples/s against 400,000 samples/s
  evidence  37 pairs in 1.25 s, false-alarm share 0.0005
  power     would have caught 2.1%""",
        ),
        (
            RATIO_FAIL,
            {"collate": 0.204, "fetch": 0.7, "order": 0.096},
            """\
FAIL: throughput >= 0.97 * against.throughput
  needed    at least 0.97 x
  measured  0.903 x, 95% interval 0.88 to 0.921
  figures   361,200 samples/s against 400,000 samples/s
  evidence  1,234 pairs in 61.0 s, false-alarm share 0.0005
  power     would have caught 1.0%
  stages    fetch 70%, collate 20%, order 10% of a batch""",
        ),
        (
            RATIO_FEW,
            {},
            """\
INCONCLUSIVE: throughput >= 0.97 * against.throughput
  needed    at least 0.97 x
  measured  0.97 x, 95% interval 0 to unbounded
  figures   412,000 samples/s against 400,000 samples/s
  evidence  3 pairs in 10.2 ms, false-alarm share 0.0005
  power     too few to have caught anything
  settling  takes a budget of at least 47 s; too little was measured to say more""",
        ),
        (
            RATIO_OPEN,
            {"fetch": 0.7, "collate": 0.3},
            """\
INCONCLUSIVE: throughput >= 0.97 * against.throughput
  needed    at least 0.97 x
  measured  0.981 x, 95% interval 0.95 to 1.01
  figures   412,000 samples/s against 400,000 samples/s
  evidence  240 pairs in 10.0 s, false-alarm share 0.0005
  power     would have caught 3.4%
  settling  probably takes a budget of 34 s
  stages    fetch 70%, collate 30% of a batch""",
        ),
        (
            RATIO_LEANING,
            {},
            """\
INCONCLUSIVE: throughput >= 0.97 * against.throughput
  verdict   INCONCLUSIVE, counted as a failure: loaderperf_inconclusive = leaning, and the 95 % interval is on the \
wrong side of the threshold
  needed    at least 0.97 x
  measured  0.07 x, 95% interval 0.04 to 0.1
  figures   412,000 samples/s against 400,000 samples/s
  evidence  13 pairs in 1.25 s, false-alarm share 0.0005
  power     too few to have caught anything
  settling  probably takes a budget of 21 s""",
        ),
        (
            NOTHING_SEEN,
            {},
            """\
INCONCLUSIVE: throughput >= 0.97 * against.throughput
  verdict   INCONCLUSIVE, counted as a failure: loaderperf_inconclusive = fail
  needed    at least 0.97 x
  measured  - x, 95% interval 0 to unbounded
  figures   - against 400,000 samples/s
  evidence  0 pairs in 1.25 s, false-alarm share 0.0005
  power     too few to have caught anything""",
        ),
        (
            RATIO_UNCONFIRMED,
            {},
            """\
INCONCLUSIVE: throughput >= 0.97 * against.throughput
  needed    at least 0.97 x
  measured  1 x, 95% interval 0.99 to 1.01
  figures   412,000 samples/s against 400,000 samples/s
  evidence  15 pairs in 1.25 s, false-alarm share 0.0005
  power     PASS from the first batches, but not later in the epoch (would have caught 3.1% there)""",
        ),
        (
            LATENCY,
            {"fetch": 1.0},
            """\
FAIL: batch_latency.p99 <= 5.00 ms
  needed    at most 5.00 ms
  measured  6.10 ms, 95% interval 5.50 ms to unbounded
  evidence  640 batches in 1.25 s, false-alarm share 0.0005
  power     would have caught 3.1% of batches beyond the limit
  stages    fetch 100% of a batch""",
        ),
        (
            MEMORY,
            {},
            """\
PASS: peak_memory <= 60.0 MiB
  needed    at most 60.0 MiB
  measured  30.0 MiB, 95% interval 30.0 MiB to 30.0 MiB
  evidence  2 epochs, exact""",
        ),
    ],
    ids=["pass", "fail", "few", "open", "leaning", "nothing", "unconfirmed", "percentile", "exact"],
)
def test_a_verdict_says_what_was_needed_what_was_measured_and_how_sure_that_is(verdict, stages, text):
    assert "\n".join(explain(verdict, stages)) == text


@pytest.mark.parametrize(
    "verdict, words",
    [
        (
            RATIO_HOPELESS,
            "probably takes more than an hour: the true value is close to your threshold; allow a larger margin",
        ),
        (
            RATIO_ON_THE_THRESHOLD,
            "is unlikely with any budget: the true value is at your threshold; allow a larger margin",
        ),
    ],
)
def test_a_truth_too_close_to_the_threshold_asks_for_room_and_not_for_time(verdict, words):
    assert explain(verdict, {})[-1] == f"  settling  {words}"
    assert undecided(verdict).endswith(f"; settling it {words}")


@pytest.mark.parametrize(
    "verdict, text",
    [
        (
            RATIO_OPEN,
            (
                "measured 0.981, 95% interval 0.95 to 1.01; 240 pairs in 10.0 s; "
                "settling it probably takes a budget of 34 s"
            ),
        ),
        (
            RATIO_UNCONFIRMED,
            (
                "measured 1, 95% interval 0.99 to 1.01; 15 pairs in 1.25 s; "
                "PASS from the first batches, but not later in the epoch"
            ),
        ),
    ],
)
def test_an_undecided_claim_has_a_line_for_reports(verdict, text):
    assert undecided(verdict) == f"INCONCLUSIVE: throughput >= 0.97 * against.throughput; needed at least 0.97; {text}"


def test_pairs_without_any_noise_are_still_evidence_not_exact_numbers():
    test = SignTest(0.97, at_least=True)
    for _ in range(20):
        test.add(1.0)
    assert explain(verdict(test.ruling(0.0005, 0)), {})[-2:] == [
        "  evidence  20 pairs in 1.25 s, false-alarm share 0.0005",
        "  power     would have caught 0.0%",
    ]


def test_a_ratio_of_exact_numbers_is_said_to_be_exact():
    test = ExactTest(1.0, at_least=False)
    test.add(0.5)
    assert explain(verdict(test.ruling(0.0005, 0), counted="pairs"), {})[-1] == "  evidence  1 pair, exact"
