"""What GitHub Actions shows: summary, annotations, and the text of a comment."""

from __future__ import annotations

import pytest

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.report.github import annotation_lines, comment_body, marker, write_step_summary
from pytest_loaderperf.report.markdown import COMMENT_BYTES, SUMMARY_BYTES
from tests.report.by_hand import claim, failed, finding, result, run


def test_failed_claims_and_findings_are_annotated_at_their_lines():
    document = result(run(claim(), failed(), claim("INCONCLUSIVE"), findings=[finding(), finding()]))
    needed = "throughput >= 0.97 * base.throughput needs at least 0.97 x"
    place = "file=tests/test_a.py,line=5,title=loaderperf%3A loader too slow"
    measured = "measured 0.9 x (95 %25 interval 0.88 to 0.92)"
    assert annotation_lines([document], "/repo") == [
        f"::error {place}::tests/test_a.py::test_it: {needed}, {measured}",
        "::warning file=pkg/data.py,line=9,title=loaderperf%3A repeated-work::the same result, twice. Fix: do it once",
    ]


def test_properties_and_messages_are_escaped():
    document = result(run(findings=[finding(file="/repo/a,b:c%.py", message="one\n::error::two", fix="")]))
    assert annotation_lines([document], "/repo") == [
        "::warning file=a%2Cb%3Ac%25.py,line=9,title=loaderperf%3A repeated-work::one\\n::error::two"
    ]


def test_a_file_outside_the_workspace_is_named_in_the_message():
    document = result(run(findings=[finding(file="/usr/lib/x.py"), finding(file="", line=0, gain=None)]))
    message = "the same result, twice. Fix: do it once"
    assert annotation_lines([document], "/repo") == [
        f"::warning title=loaderperf%3A repeated-work::/usr/lib/x.py:9: {message}",
        f"::warning title=loaderperf%3A repeated-work::{message}",
    ]


def test_no_more_than_github_shows():
    lines = annotation_lines([result(run(*[failed()] * 12, findings=[finding(line=n) for n in range(1, 12)]))], "/repo")
    assert len(lines) == 21
    assert lines[-1] == "3 more than GitHub shows as annotations: the summary has them"


def test_a_summary_is_added_to_what_the_step_wrote(tmp_path):
    file = tmp_path / "summary.md"
    for _ in range(2):
        assert write_step_summary([result(run(claim()))], file) == "summary written for this step (GITHUB_STEP_SUMMARY)"
    assert file.read_text().count("### ✅ loaderperf: 1 of 1 claim passed") == 2


def test_a_summary_stays_within_githubs_limit(tmp_path):
    file = tmp_path / "summary.md"
    file.write_text("x" * (SUMMARY_BYTES - 3000))
    write_step_summary([result(run(*[failed()] * 100))], file)
    assert SUMMARY_BYTES - 300 < file.stat().st_size <= SUMMARY_BYTES
    with pytest.raises(ResultError, match=r"^expected room for at least "):
        write_step_summary([result(run(claim()))], file)


def test_a_comment_starts_with_its_marker_and_links_to_the_run():
    document = result(run(*[failed()] * 1000))
    body = comment_body([document], name="gate", head="d" * 40, run_url="https://github.com/o/p/actions/runs/1")
    assert body.startswith("<!-- loaderperf: gate -->\n### ❌ loaderperf: 1000 of 1000 claims failed\n")
    assert body.endswith(
        "\n<sub>For commit `dddddddddddd`, by pytest-loaderperf. [Result and page]"
        "(https://github.com/o/p/actions/runs/1#artifacts) are artifacts of the run.</sub>\n"
    )
    assert COMMENT_BYTES - 300 < len(body.encode()) <= COMMENT_BYTES


def test_a_marker_cannot_end_its_own_comment():
    with pytest.raises(
        ResultError, match=r"^--name: expected up to 64 letters, digits, dots and hyphens, got 'a -->'$"
    ):
        marker("a -->")
