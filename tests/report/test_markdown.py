"""Results as Markdown: what failed comes first, and goes last where there is no room."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.report.markdown import markdown, relative_to, verdict_of
from tests.report.by_hand import claim, failed, finding, result, run

UNDECIDED = claim("INCONCLUSIVE")
COUNTED = claim("INCONCLUSIVE", failed=True)


def lines(*documents, **how):
    return markdown(documents, **how).splitlines()


def test_a_report_has_verdicts_findings_loaders_machine_and_commits():
    text = markdown([result(run(claim(), UNDECIDED, failed(), findings=[finding()], disturbed=0.4))])
    assert text.startswith(
        "### ❌ loaderperf: 1 of 3 claims failed\n\n"
        "- `tests/test_a.py::test_it`: `throughput >= 0.97 * base.throughput` needs at least 0.97 x, "
        "measured 0.9 x (95 % interval 0.88 to 0.92)\n"
        "- 1 of 3 claims undecided: nothing protects what it says\n"
        "- 1 mistake found by the doctor\n"
    )
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:5]] == ["| ❌ FAIL", "| ⚠️ INCONCLUSIVE", "| ✅ PASS"]
    assert rows[4][1:] == [
        "`tests/test_a.py::test_it`",
        "`throughput >= 0.97 * base.throughput`",
        "1.03 x<br>0.99 to unbounded",
        "≥ 0.97 x",
        "37 pairs in 840 ms |",
    ]
    assert "| `repeated-work` | `pkg/data.py:9` | 4.5x (3.3 to 6.9), predicted | the same result, twice" in text
    assert "| `tests/test_a.py::test_it` | `loader: DataLoader` | 6.21M | - | - | - |" in text
    assert text.rstrip().endswith(
        "Commits: head `cccccccccccc`, base `bbbbbbbbbbbb`<br>"
        "Machine: 2 cores of `A CPU`, torch `2.13.0`, python `3.11.7`<br>"
        "Time: 2.0 s spent measuring, ⚠️ other work disturbed the machine for 40% of it"
    )


NEW = {"nodeid": "test_a.py::test_new", "reason": "it is new", "is_new": True}
LOST = {"nodeid": "test_a.py::test_b", "reason": "*why*", "is_new": False}


@pytest.mark.parametrize(
    "document, headline, verdict",
    [
        (result(run(claim())), "### ✅ loaderperf: 1 of 1 claim passed", "pass"),
        (result(run(claim(), UNDECIDED)), "### ⚠️ loaderperf: none of 2 claims failed", "inconclusive"),
        (result(run(claim(), COUNTED)), "### ❌ loaderperf: 1 of 2 claims failed", "fail"),
        (result(run(claim()), partial=True), "### ⚠️ loaderperf: none of 1 claim failed", "error"),
        (result(run()), "### loaderperf: 1 loader measured, no claims", "error"),
        (result(run(), without_base=[NEW]), "### loaderperf: 1 loader measured, no claims", "error"),
        (result(run(), without_base=[LOST]), "### ⚠️ loaderperf: 1 loader measured, no claims", "error"),
        (result(run(claim()), without_base=[NEW]), "### ✅ loaderperf: 1 of 1 claim passed", "pass"),
        (result(run(claim()), without_base=[LOST]), "### ⚠️ loaderperf: none of 1 claim failed", "error"),
    ],
)
def test_the_headline_and_the_verdict(document, headline, verdict):
    assert lines(document)[0] == headline
    assert verdict_of([document]) == verdict


def test_tests_without_a_base_are_told_with_the_reason():
    told = lines(result(run(claim()), without_base=[NEW, *[LOST] * 7]))
    assert told.count("- `test_a.py::test_b` has no base to compare with, so nothing protects it: &#42;why&#42;") == 5
    assert "- and 2 more without a base" in told
    assert "- 1 new test, which the base does not have: nothing to compare with yet" in told


def test_a_claim_of_at_most_says_so():
    text = markdown([result(run(failed(claim="p99 <= 50 ms", unit="s", counted="batches", needed=0.05)))])
    assert "needs at most 50.0 ms, measured 900 ms" in text
    assert "| ≤ 50.0 ms |" in text


def test_a_machine_of_which_little_is_known_has_a_line():
    document = result(run(claim()))
    document["machine"] = {"cpu": "A CPU"}
    assert "Machine: `A CPU`" in markdown([document])


def test_several_results_are_headed_together():
    text = markdown([result(run(claim())), result(run(failed()), commit=None)])
    assert text.startswith("### ❌ loaderperf: 1 of 2 claims failed\n")
    assert "### Result of `cccccccccccc`\n" in text
    assert "### Result of `no commit`\n" in text


def test_several_files_are_headed_by_their_names():
    text = markdown([result(run(claim())) | {"file": "a.json"}, result(run(claim())) | {"file": "b.json"}])
    heads = [line for line in text.splitlines() if line.startswith("### `")]
    assert heads == ["### `a.json`, of `cccccccccccc`", "### `b.json`, of `cccccccccccc`"]


def test_a_mistake_that_several_tests_have_is_told_once():
    gains = ({"value": value, "low": value, "high": value, "how": "measured"} for value in (500.0, 2.0))
    one, other = (finding(gain=gain, message=f"{gain['value']} times") for gain in gains)
    elsewhere = finding(line=10)
    lines = markdown([result(run(findings=[one, one, elsewhere]), run(findings=[other]))]).splitlines()
    rows = [line for line in lines if line.startswith("| `repeated-work`")]
    assert [row.split(" | ")[1:4] for row in rows] == [
        ["`pkg/data.py:9`", "over 50x, measured", "500.0 times (in 2 tests)<br>Fix: do it once |"],
        ["`pkg/data.py:10`", "4.5x (3.3 to 6.9), predicted", "the same result, twice<br>Fix: do it once |"],
    ]
    assert "- 2 mistakes found by the doctor" in lines


MANY = [result(run(*[claim()] * 40, *[failed()] * 40, findings=[finding(line=n + 1) for n in range(40)]))]
LEFT = re.compile(r"… (\d+) more in the artifact")


@given(st.integers(2_000, 40_000))
@settings(max_examples=10, deadline=None)
def test_tables_are_cut_by_whole_rows_and_failures_go_last(most_bytes):
    text = markdown(MANY, most_bytes)
    assert len(text.encode()) <= most_bytes
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(row.endswith(" |") for row in rows)
    left = sum(map(int, LEFT.findall(text)))
    assert len(rows) - 3 * 2 + left == 80 + 40 + 1  # without headings: claims, findings and a loader
    shown = {mark: sum(row.startswith(f"| {mark}") for row in rows) for mark in ("✅", "❌")}
    assert shown["❌"] == 40 or shown["✅"] == 0
    assert MarkdownIt("commonmark").enable("table").render(text).count("<table>") == 3


def test_without_room_for_the_headline_an_error_says_how_much_is_missing():
    with pytest.raises(ResultError, match=r"^expected room for at least [\d,]+ bytes more: a report needs so much"):
        markdown(MANY, 300)


def test_hostile_names_stay_in_their_cells():
    name = "test_a.py::t[<script>alert(1)</script>|@octocat\n| x | #1 `]"
    text = markdown([result(run(failed(claim=name), nodeid=name, findings=[finding(message=name, rule=name)]))])
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<script" not in html
    assert html.count("<td>") == 6 + 4 + 6
    assert "@octocat" not in re.sub(r"<code>.*?</code>", "", html)


@pytest.mark.parametrize(
    "file, shown", [("/repo/a/b.py", "a/b.py"), ("/repository/b.py", "/repository/b.py"), ("a.py", "a.py")]
)
def test_files_are_named_from_the_repository(file, shown):
    assert relative_to(file, "/repo") == relative_to(file, "/repo/") == shown
    assert relative_to(file, None) == file
