"""The table and the summary of a terminal, from documents made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_loaderperf.report import TableLine, disturbance_lines, summary_lines, table_lines


def entry(value):
    return {"value": value, "unit": "", "low": None, "high": None, "n": 5}


def side(name, kind, **metrics):
    return {"name": name, "kind": kind, "loader": kind, "metrics": {key: entry(metrics[key]) for key in metrics}}


def claim(verdict="PASS", text="throughput >= 0.97 * against.throughput", **changes):
    plain = {"claim": text, "verdict": verdict, "estimate": 1.03, "unit": "1", "pairs": 37, "counted": "pairs"}
    return plain | {"seconds": 0.84, "alpha": 0.0005} | changes


def run(nodeid, sides, claims=(), notes=(), seconds=2.04, **disturbed_by):
    document = {"nodeid": nodeid, "sides": sides, "claims": list(claims), "notes": list(notes), "seconds": seconds}
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
            claim("INCONCLUSIVE", "data_wait(step=10 ms) <= 0.1", estimate=0.1, counted="trials", pairs=8),
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
  INCONCLUSIVE  data_wait(step=10 ms) <= 0.1  0.1, 8 trials, 0.8 s
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
  INCONCLUSIVE  data_wait(step=10 ms) <= 0.1  0.1, 8 trials, 0.8 s
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
    runs = [*RUNS, run(long, [side(long, "K", throughput=1e6)], [claim("FAIL", long)], [long])]
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
        f"false-alarm budget of the run: 0.001, of which its claims were given {0.0005 * len(verdicts):.2g}"
    )
    unsettled = TableLine("INCONCLUSIVE: not settled within the budget, fails no test; a larger budget may", "yellow")
    assert lines[2:] == [unsettled] * ("INCONCLUSIVE" in verdicts)


@pytest.mark.parametrize(
    "runs, text",
    [
        ([run("t", [], stolen=0.2, other_processes=0.14, throttled=0.0)], "34%: stolen time 20%, other processes 14%"),
        (
            [run("t", [], cpu_quota=0.5, throttled=0.25)],
            "75%: the container's CPU limit 50%, thermal throttling 25%",
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
def test_figures_of_any_size_fit_a_terminal_of_80_columns(rate, seconds, width):
    sides = [side("loader", "DataLoader", throughput=rate, batch_latency_p50=seconds, batch_latency_p99=seconds)]
    assert max(len(line.text) for line in table_lines([run("t", sides)], width)) <= width
