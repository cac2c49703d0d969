"""The table and the summary of a terminal, from documents made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.report import (
    TableLine,
    disturbance_lines,
    summary_lines,
    table_lines,
    unheeded_lines,
    unpaired_lines,
)


def entry(value):
    return {"value": value, "unit": "", "low": None, "high": None, "n": 5}


def side(name, kind, **metrics):
    return {"name": name, "kind": kind, "loader": kind, "metrics": {key: entry(metrics[key]) for key in metrics}}


def claim(verdict="PASS", text="throughput >= 0.97 * against.throughput", **changes):
    plain = {"claim": text, "verdict": verdict, "estimate": 1.03, "unit": "1", "pairs": 37, "counted": "pairs"}
    plain |= {"low": 0.951, "high": 1.05, "needed": 0.97, "failed": verdict == "FAIL", "unconfirmed": None}
    return plain | {"seconds": 0.84, "alpha": 0.0005, "settles_in_seconds": None} | changes


def undecided(seconds=None, **changes):
    return claim("INCONCLUSIVE", **{"settles_in_seconds": seconds} | changes)


def run(nodeid, sides, claims=(), notes=(), *, seconds=2.04, inconclusive="pass", **disturbed_by):
    document = {"nodeid": nodeid, "sides": sides, "claims": list(claims), "notes": list(notes), "seconds": seconds}
    document["inconclusive"] = inconclusive
    return document | {"disturbed": sum(disturbed_by.values()) if disturbed_by else None, "disturbed_by": disturbed_by}


RUNS = [
    run(
        "suites/perf/test_in_memory.py::test_reference_loader[vectors]",
        [
            side(
                "loader",
                "ReferenceLoader",
                throughput=6_213_000,
                batch_latency_p50=47.1e-6,
                batch_latency_p95=61.2e-6,
                batch_latency_p99=0.00471,
                first_batch=0.0123,
                dataloader_ratio=29.26,
                roofline_fraction=0.903,
            ),
            side(
                "torch DataLoader",
                "DataLoader",
                throughput=212_369,
                batch_latency_p50=0.00014,
                batch_latency_p95=None,
                batch_latency_p99=999.6e-6,
                first_batch=1.5,
                dataloader_ratio=1.0,
                roofline_fraction=0.0312,
            ),
            side("roofline", "Roofline", throughput=6_880_000),
        ],
        [
            claim(),
            claim(
                "FAIL",
                "batch_latency.p99 <= 5.00 ms",
                estimate=0.0061,
                unit="s",
                pairs=1640,
                counted="batches",
                seconds=10.0,
            ),
            claim(
                "INCONCLUSIVE",
                "data_wait(step=10 ms) <= 0.1",
                estimate=0.093,
                low=0.081,
                high=0.102,
                needed=0.1,
                counted="trials",
                pairs=8,
                settles_in_seconds=33.4,
            ),
        ],
        ["loader was given as a loader, not a factory: it was not rebuilt"],
        seconds=12.84,
    ),
    run("test_b.py::test_two", [side("loader", "DataLoader", throughput=950)], [claim(estimate=None)]),
]

AT_120 = """\
loader                   samples/s      p50      p95      p99     TTFB  x DataLoader  of roofline
suites/perf/test_in_memory.py::test_reference_loader[vectors]  (12.8 s)
loader: ReferenceLoader      6.21M  47.1 us  61.2 us  4.71 ms  12.3 ms          29.3          90%
torch DataLoader              212k   140 us        -  1.00 ms   1.50 s          1.00         3.1%
roofline                     6.88M        -        -        -        -             -            -
  PASS  throughput >= 0.97 * against.throughput  1.03 x, 37 pairs, 0.8 s
  FAIL  batch_latency.p99 <= 5.00 ms  6.10 ms, 1,640 batches, 10.0 s
  INCONCLUSIVE  data_wait(step=10 ms) <= 0.1  0.093, interval 0.081 to 0.102, 8 trials, 0.8 s, probably needs 34 s
  note: loader was given as a loader, not a factory: it was not rebuilt
test_b.py::test_two  (2.0 s)
loader: DataLoader             950        -        -        -        -             -            -
  PASS  throughput >= 0.97 * against.throughput  - x, 37 pairs, 0.8 s"""

AT_80 = """\
loader                   samples/s      p50      p99     TTFB  x DL  roof
suites/perf/test_in_memory.py::test_reference_loader[vectors]  (12.8 s)
loader: ReferenceLoader      6.21M  47.1 us  4.71 ms  12.3 ms  29.3   90%
torch DataLoader              212k   140 us  1.00 ms   1.50 s  1.00  3.1%
roofline                     6.88M        -        -        -     -     -
  PASS  throughput >= 0.97 * against.throughput  1.03 x, 37 pairs, 0.8 s
  FAIL  batch_latency.p99 <= 5.00 ms  6.10 ms, 1,640 batches, 10.0 s
  INCONCLUSIVE  data_wait(step=10 ms) <= 0.1
        0.093, interval 0.081 to 0.102, 8 trials, 0.8 s, probably needs 34 s
  note: loader was given as a loader, not a factory: it was not rebuilt
test_b.py::test_two  (2.0 s)
loader: DataLoader             950        -        -        -     -     -
  PASS  throughput >= 0.97 * against.throughput  - x, 37 pairs, 0.8 s"""


@pytest.mark.parametrize("width, text", [(120, AT_120), (80, AT_80)])
def test_the_table_of_a_run(width, text):
    assert "\n".join(line.text for line in table_lines(RUNS, width)) == text


def test_headings_are_bold_and_claims_have_the_colour_of_their_verdict():
    colors = [line.color for line in table_lines(RUNS, 120)]
    assert colors == ["bold", "bold", "", "", "", "green", "red", "yellow", "yellow", "bold", "", "green"]


@pytest.mark.parametrize("width", [60, 66, 80, 99, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    long = "x" * 150
    figures = {"estimate": 412_345.0, "low": 402_123.0, "high": 498_319.0, "unit": "samples/s", "counted": "trials"}
    claims = [claim("FAIL", long), undecided(3000.0, text=long), undecided(**figures)]
    runs = [*RUNS, run(long, [side(long, "K", throughput=1e6)], claims, [long])]
    assert [line.text for line in table_lines(runs, width) if len(line.text) > width] == []


@pytest.mark.parametrize(
    "width, columns",
    [
        (80, ["samples/s", "p50", "p99", "TTFB", "x DL", "roof"]),
        (99, ["samples/s", "p50", "p99", "TTFB", "x DL", "roof"]),
        (100, ["samples/s", "p50", "p95", "p99", "TTFB", "x DataLoader", "of roofline"]),
    ],
)
def test_a_wide_terminal_shows_all_columns(width, columns):
    heading = table_lines(RUNS, width)[0].text
    assert [part.strip() for part in heading.split("  ") if part.strip()] == ["loader", *columns]


def test_what_a_claim_measured_goes_to_a_line_of_its_own_where_the_room_ends():
    lines = [line for line in table_lines(RUNS, 66) if line.color == "green"][:2]
    assert lines == [
        TableLine("  PASS  throughput >= 0.97 * against.throughput", "green"),
        TableLine("        1.03 x, 37 pairs, 0.8 s", "green"),
    ]


def test_a_long_label_is_cut_with_dots():
    *_, row = table_lines([run("t", [side("loader", "K" * 100)])], 80)
    assert row.text.startswith("loader: KKK")
    assert "K..." in row.text


def test_a_long_note_goes_on_in_the_next_line():
    *_, first, second = table_lines([run("t", [side("loader", "K")], notes=["an epoch takes " * 6])], 80)
    assert first == TableLine("  note: an epoch takes an epoch takes an epoch takes an epoch takes an epoch", "yellow")
    assert second == TableLine("        takes an epoch takes", "yellow")


def test_without_runs_the_table_is_its_heading():
    assert table_lines([], 80) == [TableLine("loader        samples/s  p50  p99  TTFB  x DL  roof", "bold")]


@pytest.mark.parametrize(
    "verdicts, text, color",
    [
        ([], "no claims", ""),
        (["PASS"], "1 claim: 1 PASS", "green"),
        (["PASS", "PASS"], "2 claims: 2 PASS", "green"),
        (["INCONCLUSIVE", "PASS"], "2 claims: 1 PASS, 1 INCONCLUSIVE", "yellow"),
        (["INCONCLUSIVE", "FAIL", "PASS", "FAIL"], "4 claims: 1 PASS, 2 FAIL, 1 INCONCLUSIVE", "red"),
    ],
)
def test_the_summary_counts_verdicts_in_the_colour_of_the_worst(verdicts, text, color):
    lines = summary_lines([run("t", [], [claim(verdict) for verdict in verdicts], seconds=4.0)], 0.001)
    assert lines[0] == TableLine(f"{text}; 4.0 s spent measuring", color)
    assert lines[1].text == (
        f"false-alarm budget of the run: 0.001, of which its claims use {0.0005 * len(verdicts):.2g}"
    )
    assert bool(lines[2:]) == ("INCONCLUSIVE" in verdicts)


LEANING = "  --loaderperf-inconclusive=leaning fails those beyond the threshold so far"


@pytest.mark.parametrize(
    "claims, policy, texts",
    [
        ([claim(), claim("FAIL")], "pass", []),
        (
            [undecided(33.2)],
            "pass",
            [
                "1 of 1 claim undecided: nothing protects it",
                "  1 would probably be settled by a budget of 34 s",
                LEANING,
            ],
        ),
        (
            [undecided(33.2), undecided(1768.0), undecided(), undecided(unconfirmed="PASS"), claim(), claim("FAIL")],
            "leaning",
            [
                "4 of 6 claims undecided: nothing protects them",
                "  2 would probably be settled by budgets of 34 s to 1800 s",
                "  1 got a verdict from the first batches that later ones do not confirm",
                "  1 would not be settled by an hour of measuring: allow a larger margin",
            ],
        ),
        (
            [undecided(failed=True), undecided(12.0), claim()],
            "leaning",
            [
                "1 of 3 claims undecided, counted as a failure",
                "1 of 3 claims undecided: nothing protects it",
                "  1 would probably be settled by a budget of 12 s",
                "  1 would not be settled by an hour of measuring: allow a larger margin",
            ],
        ),
        (
            [undecided(0.19, failed=True), undecided(0.2, failed=True)],
            "fail",
            [
                "2 of 2 claims undecided, counted as failures",
                "  2 would probably be settled by a budget of 0.2 s",
            ],
        ),
    ],
    ids=["none", "one", "kinds", "some fail", "all fail"],
)
def test_the_summary_counts_what_nothing_protects_and_says_what_to_do(claims, policy, texts):
    lines = summary_lines([run("t", [], claims, inconclusive=policy)], 0.001)[2:]
    assert [line.text for line in lines] == texts
    assert [line.color for line in lines] == ["red" if "counted as" in text else "yellow" for text in texts]
    assert max((len(text) for text in texts), default=0) <= 80


def test_failed_claims_of_tests_that_pass_are_named():
    failed = claim("FAIL", failed=True)
    names = ["a.py::test[x #2]", "a.py::test[x #2] #2", "a.py::test_other (rerun 1)", "a.py::test_fails"]
    runs = [run("a.py::test_fine", [], [claim("PASS")]), *(run(name, [], [failed]) for name in names)]
    lines = unheeded_lines(runs, {"a.py::test[x #2]", "a.py::test_other", "a.py::test_fine"})
    assert [line.text for line in lines] == [
        "2 tests pass though a claim there failed: nothing protects them",
        "  write `assert` before the comparison, unless it is meant (`not`, `or`)",
        "  a.py::test[x #2]",
        "  a.py::test_other",
    ]
    assert {line.color for line in lines} == {"yellow"}
    assert unheeded_lines(runs, {"a.py::test_fine"}) == []
    many = unheeded_lines([run(f"t{n}", [], [failed]) for n in range(12)], {f"t{n}" for n in range(12)})
    assert [line.text for line in many[-2:]] == ["  t9", "  and 2 more"]


def test_an_undecided_claim_that_counts_as_a_failure_is_red():
    runs = [run("t", [], [undecided(failed=True)], inconclusive="fail")]
    assert {line.color for line in table_lines(runs, 80)[2:]} == {"red"}
    assert summary_lines(runs, 0.001)[0].color == "red"


@pytest.mark.parametrize(
    "changes, tail",
    [
        ({"settles_in_seconds": 33.4}, "probably needs 34 s"),
        ({"settles_in_seconds": 33.4, "high": None}, "needs at least 34 s"),
        ({}, "probably needs over an hour"),
        ({"estimate": 0.9702}, "is at the threshold"),
        ({"unconfirmed": "PASS"}, "PASS from the first batches only"),
        ({"pairs": 0, "estimate": None, "low": 0.0, "high": None}, "0.8 s"),
    ],
)
def test_an_undecided_claim_says_what_would_settle_it(changes, tail):
    [*_, line] = table_lines([run("t", [], [undecided(**changes)])], 200)
    assert line.text.rsplit(", ", 1)[1] == tail


def test_an_interval_without_an_end_is_unbounded():
    [*_, line] = table_lines([run("t", [], [undecided(low=0.0, high=None)])], 200)
    assert "1.03 x, interval 0 to unbounded, 37 pairs" in line.text


def test_what_an_undecided_claim_measured_is_not_torn_apart_at_the_end_of_a_line():
    figures = {"estimate": 412_345.0, "low": 402_123.0, "high": 498_319.0, "unit": "samples/s", "counted": "trials"}
    long = undecided(1768.0, pairs=68, text="throughput >= 400,000 samples/s", **figures)
    lines = table_lines([run("t", [], [long])], 80)
    assert [line.text for line in lines[2:]] == [
        "  INCONCLUSIVE  throughput >= 400,000 samples/s",
        "        412,345 samples/s, interval 402,123 samples/s to 498,319 samples/s,",
        "        68 trials, 0.8 s, probably needs 1800 s",
    ]


def test_tests_without_a_base_are_counted_unless_they_are_new():
    told = [("t.py::a", "the base did not collect it\nlong", False), ("t.py::b", "", False), ("t.py::new", "new", True)]
    lines = summary_lines([], 0.001, told)[2:]
    assert lines == unpaired_lines(told)
    assert lines == [
        TableLine("2 tests have no base to compare with: nothing protects them", "yellow"),
        TableLine("  t.py::a: the base did not collect it", "yellow"),
        TableLine("  t.py::b: no reason given", "yellow"),
    ]
    assert unpaired_lines(told[:1])[0].text == "1 test has no base to compare with: nothing protects it"
    assert unpaired_lines(told[2:]) == []


@pytest.mark.parametrize(
    "runs, text",
    [
        ([run("t", [], stolen=0.2, other_processes=0.14, cpu_quota=0.0)], "34%: stolen time 20%, other processes 14%"),
        (
            [run("t", [], cpu_quota=0.5, stolen=0.25)],
            "75%: stolen time 25%, the container's CPU limit 50%",
        ),
        # Longer runs weigh more, and those of which nothing is known count neither way.
        (
            [run("a", [], seconds=1.0, stolen=0.4), run("b", [], seconds=3.0, stolen=0.0), run("c", [])],
            "10%: stolen time 10%",
        ),
        ([run("t", [], other_processes=0.051)], "5.1%: other processes 5.1%"),
        ([run("t", [], other_processes=0.05)], ""),
        ([run("t", [])], ""),
        ([run("t", [], seconds=0.0, stolen=1.0)], ""),
        ([], ""),
    ],
)
def test_the_summary_says_how_much_of_the_measuring_was_disturbed_and_by_what(runs, text):
    text = text.replace("%:", "% of the measuring:", 1)
    expected = [TableLine(f"the machine was disturbed for {text}", "yellow")] if text else []
    assert disturbance_lines(runs) == expected
    assert summary_lines(runs, 0.001)[2:] == expected


def test_a_summary_of_nothing_divides_by_nothing():
    assert summary_lines([], 0.001)[0] == TableLine("no claims; 0.0 s spent measuring", "")


@given(st.floats(0, 1e12), st.floats(1e-9, 1e4), st.integers(80, 200))
@settings(deadline=None)
def test_figures_of_any_size_fit_a_terminal_of_80_columns(rate, seconds, width):
    sides = [side("loader", "DataLoader", throughput=rate, batch_latency_p50=seconds, batch_latency_p99=seconds)]
    assert max(len(line.text) for line in table_lines([run("t", sides)], width)) <= width


def ranked(number, throughput, host="a"):
    return {"rank": number, "host": host, "metrics": side("", "", throughput=throughput)["metrics"]}


def test_a_job_has_a_row_for_each_rank_and_its_skew():
    loader = side("loader", "DataLoader", throughput=600)
    loader["metrics"]["skew"] = {"value": 1.21, "unit": "1", "low": 1.1, "high": 1.3, "n": 20}
    job = run("test_it", [loader, side("roofline", "Roofline", throughput=9000)])
    job |= {"ranks": [ranked(0, 300), ranked(1, 300, "b")]}
    _, heading, *rows = [line.text.split("  ")[0].rstrip() for line in table_lines([job], 100)]
    assert heading == "test_it"
    assert table_lines([job], 100)[1].text == "test_it  (2.0 s, 2 ranks on 2 hosts, skew 1.21)"
    assert rows == ["loader: DataLoader", " rank 0 on a", " rank 1 on b", "roofline"]


def test_of_many_ranks_the_slowest_have_rows_and_a_skew_of_few_trials_is_not_shown():
    loader = side("loader", "DataLoader", throughput=600)
    loader["metrics"]["skew"] = {"value": 1.21, "unit": "1", "low": 0.0, "high": None, "n": 3}
    job = run("test_it", [loader])
    job |= {"ranks": [ranked(number, 100 - number) for number in range(64)]}
    lines = [line.text for line in table_lines([job], 100)]
    assert lines[1] == "test_it  (2.0 s, 64 ranks)"
    assert [line.split()[1] for line in lines[3:]] == [str(number) for number in range(56, 64)]
