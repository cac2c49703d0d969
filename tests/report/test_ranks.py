"""What is said of the ranks of a job: the slowest, its host, and by how much, wherever a result is shown."""

from __future__ import annotations

import copy

import pytest

from pytest_loaderperf.report.github import annotation_lines
from pytest_loaderperf.report.interchange.junit import junit_xml
from pytest_loaderperf.report.markdown import markdown
from pytest_loaderperf.report.ranks import ranks_text, slowest, slowest_text
from pytest_loaderperf.report.shape import first_fault
from tests.report import results

HOST = "node`<b>|@you\n"


@pytest.fixture(scope="module")
def failed():
    return results.job(8, ("node-a", "node-b"), slow=5)


def test_the_slowest_is_that_of_the_skew_with_its_interval(failed):
    found = slowest(failed)
    assert (found.rank, found.host, found.lasting) == (5, "node-b", True)
    assert found.times == pytest.approx(1.3 / 1.02, rel=0.01)
    assert found.low < found.times < found.high


def test_without_trials_for_the_skew_the_throughput_tells_it():
    job = results.job(4, slow=2, times=2.0, claims=False)
    found = slowest(job)
    assert (found.rank, found.lasting, found.low) == (2, False, None)
    assert found.times == pytest.approx(2 / 1.01, rel=0.01)
    job["ranks"][1]["metrics"]["throughput"]["value"] = None
    assert slowest(job) is None


def test_fewer_than_two_ranks_have_no_slowest():
    assert slowest(results.job(1)) is None
    assert slowest({"ranks": []}) is slowest({}) is None  # a process alone, and a result of an earlier version


def test_ranks_and_hosts_are_counted(failed):
    assert ranks_text(failed) == "8 ranks on 2 hosts"
    assert ranks_text(results.job(1)) == "1 rank"
    assert ranks_text({"ranks": []}) == ranks_text({}) == ""


def test_only_a_claim_on_the_skew_names_the_slowest(failed):
    text = "slowest: rank 5 on node-b, 1.27 x the median of the others"
    assert slowest_text(failed, failed["claims"]) == text
    assert slowest_text(failed, [{"claim": "throughput >= 100 samples/s"}]) == ""
    old = copy.deepcopy(failed)
    for rank in old["ranks"]:
        del rank["metrics"]["skew"]
    assert slowest_text(old, old["claims"]) == text.replace("slowest", "slowest by throughput")


def test_a_failed_claim_names_rank_and_host_in_markdown_annotations_and_junit(failed):
    document = results.result([failed])
    text = markdown([document])
    in_markdown = "slowest: rank 5 on `node-b`, 1.27 x the median of the others"
    headline, row = (next(line for line in text.splitlines() if line.startswith(mark)) for mark in ("- ", "| ❌"))
    assert headline.endswith(f"); {in_markdown}")
    assert f"<br>{in_markdown} |" in row
    plain = in_markdown.replace("`", "")
    assert annotation_lines([document], "/repo")[0].endswith(f"; {plain}")
    assert f"ranks     {plain}" in junit_xml([document])


def test_a_host_cannot_end_its_cell_or_be_markup():
    document = results.result([results.job(2, (HOST,), slow=1)])
    text = markdown([document])
    assert "<b>" not in text
    assert "@you" not in text.replace("&#64;you", "")
    assert "<code>node&#96;&#60;b&#62;&#124;&#64;you&#92;n</code>" in text


def test_a_passed_claim_and_a_job_without_claims_name_nobody(failed):
    fine = results.result([results.job(4), results.job(4, slow=2, claims=False)])
    assert "slowest" not in markdown([fine])


def test_a_result_whose_ranks_are_of_another_shape_is_refused(failed):
    document = results.result([copy.deepcopy(failed)])
    assert first_fault(document) == ""
    del document["runs"][0]["ranks"][3]["host"]
    assert first_fault(document) == "runs[0].ranks[3].host: expected a text, got nothing"
