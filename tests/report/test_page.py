"""The report page as text: what it says, that nothing from outside runs in it, and that it stands alone."""

from __future__ import annotations

import copy
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_loaderperf.arguments import not_a_page
from pytest_loaderperf.report import page as package
from pytest_loaderperf.report.page import page
from pytest_loaderperf.report.page.compare import compared
from pytest_loaderperf.report.page.view import TIMES
from tests.report import results

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7*7 }} \u202e"
VENDOR = Path(package.__file__).parent / "vendor"


class Page(HTMLParser):
    """A page's elements, and its text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.scripts, self._inside = [], [], [], [], ""
        self.feed(text.replace("<wbr>", ""))  # where a name may continue on the next line
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, *pair) for pair in attrs)
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def one():
    return results.each_verdict()


@pytest.fixture(scope="module")
def shown(one):
    return Page(page([one]))


def test_verdicts_come_first_in_words_and_signs(shown):
    text = shown.text
    assert "1 claim fails, 1 undecided, 2 pass" in text
    assert "19.5 s spent measuring; the doctor found 1 mistake; at most one of 1,000 such runs fails by chance" in text
    for part in (
        "✗ FAIL",
        "? INCONCLUSIVE",
        "✓ PASS",
        f"at least 0.97 {TIMES}",
        "at most 50.0 ms",
        "60 pairs",
        "1,200 batches",
    ):
        assert part in text
    assert text.index("✗ FAIL") < text.index("How long batches take") < text.index("while measuring")
    assert "the machine was disturbed for 20% of the measuring: stolen time 15%, other processes 5.0%" in text


def test_failed_claims_are_the_first_rows():
    ratios = {"good": 1.1, "close": 0.97, "slow": 0.85, "fast": 1.2}
    runs = [results.run(f"t.py::{n}", [results.ratio_verdict(ratio)], batches=40) for n, ratio in ratios.items()]
    rows = Page(page([results.result(runs)])).text
    assert sorted(ratios, key=lambda name: rows.index(f"t.py::{name}")) == ["slow", "close", "good", "fast"]


def test_a_finding_has_its_line_its_fix_and_its_gain(shown):
    assert "element-by-element at /home/me/project/data.py:42 · gain 12x (9.2 to 16), predicted" in shown.text
    assert "Fix: use one operation on the whole array: self.rows[i] / 255" in shown.text


def test_every_chart_says_its_figures_in_words(shown):
    labels = [value for _, name, value in shown.attributes if name == "aria-label" and value]
    wanted = {
        "worse: measured 0.853, needed 0.97; 95 % interval 0.838 to 0.861",
        "Shares of a batch's time: fetch 71%, collate 26%, transfer 3%",
        "Throughput as a share of the roofline's, measured in pairs: loader 12%, against 12%",
    }
    assert wanted <= set(labels)
    pairs = "Chart of 60 pairs: all together 0.853, 95 % interval 0.838 to 0.861, needed at least 0.97; "
    assert f"{pairs}60 of 60 points are on the wrong side" in labels
    assert any("10 stalls beyond" in label and "the longest took 40.0 ms" in label for label in labels)
    assert any("10 to the power of 18 for FAIL; 2,000 settles the claim" in label for label in labels)


def test_the_page_stands_alone(shown):
    assert [value for _, name, value in shown.attributes if name in ("src", "srcset", "data", "action")] == []
    links = [value for _, name, value in shown.attributes if name == "href"]
    assert all(link.startswith("#") for link in links)
    idents = [value for _, name, value in shown.attributes if name == "id"]
    assert {link[1:] for link in links} <= set(idents)
    assert len(idents) == len(set(idents))
    assert shown.tags.count("script") == 3
    policy = next(value for _, name, value in shown.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def everywhere(entry):
    """``entry`` with every text, also of keys that users choose, replaced by a hostile one."""
    if isinstance(entry, dict):
        kept = ("verdict", "unit", "counted", "unconfirmed", "leaning", "how")
        changed = {key: value if key in kept else everywhere(value) for key, value in entry.items()}
        return {HOSTILE: changed["fetch"]} if "fetch" in changed else changed
    if isinstance(entry, list):
        return [everywhere(value) for value in entry]
    return HOSTILE if isinstance(entry, str) else entry


def test_nothing_from_outside_is_markup(one, shown):
    hostile = everywhere(one)
    both = Page(page([hostile, hostile | {"file": HOSTILE}]))
    plain = Page(page([one, one | {"file": "b.json"}]))
    assert both.tags.count("script") == 3
    assert "img" not in both.tags
    assert set(both.tags) == set(plain.tags)
    data = json.loads(both.scripts[0])
    assert any("</script>" in side["name"] for chart in data for side in chart.get("sides", []))
    assert "49" not in both.text.partition("Side by side")[2][:400]  # no template in a name is evaluated
    assert "\u202e" not in both.text
    assert "\\u202e" in both.text


def test_fifty_tests_fit_into_two_megabytes(one):
    runs = []
    for number in range(50):
        again = copy.copy(one["runs"][2])
        again["nodeid"] = f"suites/perf/test_costs.py::test_of_a_loader[{number}-workers]"
        runs.append(again)
    assert len(page([one | {"runs": runs}]).encode()) < 2_000_000


def test_a_result_from_before_the_charts_has_a_page(one):
    old = copy.deepcopy(one)
    for run in old["runs"]:
        for claim in run["claims"]:
            del claim["course"], claim["at_least"]
        for side in run["sides"]:
            del side["batches"]
    assert Page(page([old])).text.startswith("1 claim fails, 1 undecided, 2 pass")


def test_numbers_beyond_all_times_and_a_result_without_causes_make_a_page(one):
    odd = copy.deepcopy(one)
    batches = odd["runs"][0]["sides"][0]["batches"]
    batches["timeline"]["typical"][0] = batches["histogram"]["edges"][-1] = batches["stalls"]["starts"][0] = 1e308
    batches["timeline"]["longest"][0] = -1e308
    del batches["stalls"]["latencies"][-1]
    del odd["runs"][1]["disturbed_by"]
    assert "Batches over time" in Page(page([odd])).text


@pytest.mark.parametrize("needed", [1e308, 5e-324])
def test_a_threshold_beyond_all_measurements_makes_a_page(one, needed):
    odd = copy.deepcopy(one)
    odd["runs"][0]["claims"][0] |= {"needed": needed, "low": 0.0}
    assert f"at least {needed:.3g}" in Page(page([odd])).text


def test_a_result_without_claims_and_one_that_did_not_end():
    text = Page(page([results.result([results.run("test_a.py::test_b", [], batches=40)], partial=True)])).text
    assert "1 loader measured 6.5 s spent measuring The run did not reach its end." in text
    assert "No claims: these loaders were measured, and compared with no threshold." in text
    assert "This is what had been measured by then." in text
    tests = [{"nodeid": "t.py::t", "reason": f"since {is_new}", "is_new": is_new} for is_new in (True, False)]
    text = Page(page([results.result([], without_base=tests)])).text
    assert "t.py::t has no base to compare with, so nothing protects it: since False" in text
    assert "1 new test, which the base does not have: nothing to compare with yet." in text
    assert "0 loaders measured" in Page(page([results.result([])])).text


def test_an_undecided_claim_that_counts_as_a_failure_says_so():
    failing = results.ratio_verdict(0.9, pairs=8, noise=0.1, policy="fail")
    text = Page(page([results.result([results.run("test_a.py::test_b", [failing], batches=40)])])).text
    assert "1 claim fails" in text
    assert "? INCONCLUSIVE counts as a failure" in text


def test_a_job_has_a_row_for_each_rank_and_names_the_slowest():
    shown = Page(page([results.result([results.job(64, [f"node-{n}" for n in range(8)], slow=41)])]))
    assert "64 ranks on 8 hosts · 6.50 s measured" in shown.text
    assert f"The slowest is rank 41 on node-5 : it takes 1.27 {TIMES} the median of the others" in shown.text
    assert f"Rank Host samples/s p50 p99 TTFB {TIMES} the others 0 node-0 4,000 8.00 ms 16.0 ms 24.0 ms" in shown.text
    assert "40 node-5" in shown.text
    assert "41 ▼ slowest node-5 3,077 10.4 ms" in shown.text
    labels = [value for _, name, value in shown.attributes if name == "aria-label"]
    assert (
        "Chart of the throughput of 64 ranks: from 3,077 samples/s to 4,000 samples/s, median 3,922 samples/s" in labels
    )


def test_the_caption_speaks_of_intervals_only_where_there_are_some():
    job = results.job(2, slow=1)
    assert "rank, with its 95 % interval" in Page(page([results.result([job])])).text
    for rank in job["ranks"]:
        rank["metrics"]["throughput"] |= {"low": None, "high": None}  # of few trials
    assert "rank, with its 95 % interval" not in Page(page([results.result([job])])).text


def test_one_rank_has_no_slowest_and_without_a_claim_its_throughput_tells_it():
    text = Page(page([results.result([results.job(1)])])).text
    assert "1 rank · " in text
    assert "slowest" not in text
    text = Page(page([results.result([results.job(2, slow=0, claims=False)])])).text
    assert f"rank 0 on node-a : it takes 1.29 {TIMES} the median of the others (by throughput, which includes" in text


@pytest.fixture
def two(one):
    later = copy.deepcopy(one)
    later["machine"] = later["machine"] | {"torch": "2.14.0", "steal_seconds": 3.0}
    metrics = later["runs"][0]["metrics"]
    metrics["throughput"] |= {key: 0.5 * metrics["throughput"][key] for key in ("value", "low", "high")}
    metrics["batch_latency_p50"] |= {"value": 1.05 * metrics["batch_latency_p50"]["value"]}
    del later["runs"][2]
    return [one | {"file": "before.json"}, later | {"file": "after.json"}]


def test_several_results_are_compared_test_by_test(two):
    tests = {test["name"]: {row["name"]: row["cells"] for row in test["rows"]} for test in compared(two)}
    assert list(tests) == ["test_data.py::test_slow", "test_data.py::test_close"]  # the third is in one file only
    rows = tests["test_data.py::test_slow"]
    before, after = rows["samples a second"]
    assert (before["change"], after["change"], after["tone"]) == ("", f"0.5 {TIMES}, worse", "fail")
    assert rows["batch latency, p50"][1]["change"] == f"1.05 {TIMES}, intervals overlap"
    assert rows["batch latency, p99"][1]["change"] == "the same"
    claim = rows["throughput >= 0.97 * against.throughput"][1]
    assert (claim["text"], claim["symbol"]) == ("0.853", "✗ FAIL")


def test_equal_claims_of_a_test_are_compared_one_by_one(two):
    two = copy.deepcopy(two)
    for document in two:
        first = document["runs"][0]["claims"]
        first.append(first[0] | {"verdict": "PASS"})
    rows = {row["name"]: row["cells"] for row in compared(two)[0]["rows"]}
    told = [[cell["symbol"] for cell in rows[f"throughput >= 0.97 * against.throughput{end}"]] for end in ("", " (2)")]
    assert told == [["✗ FAIL"] * 2, ["✓ PASS"] * 2]


def test_results_of_different_machines_are_warned_about(two):
    advice = "Compare the ratios that were measured in pairs, not times and rates."
    text = Page(page(two)).text
    assert f"The software differs: torch (2.13.0 / 2.14.0). {advice}" in text
    limits = {"cpu.max": "200000 100000", "memory.max": None}
    two[1]["machine"] |= {"cpu": "Xeon", "start_method": "spawn", "container_limits": limits}
    differ = "cpu (EPYC / Xeon), container limits (none / cpu.max 200000 100000), torch (2.13.0 / 2.14.0), "
    differ += "start method (none / spawn)"
    assert f"The machines differ, so do not compare the figures: {differ}. {advice}" in Page(page(two)).text
    assert "test_data.py::test_slow in after.json" in text


def test_only_a_page_of_ours_is_replaced(tmp_path, one):
    file = tmp_path / "page.html"
    assert not_a_page(file) is None
    file.write_text("<!DOCTYPE html><title>pytest-loaderperf is in this text, but it is a user's</title>")
    assert not_a_page(file) == (
        f"{file} was not written by loaderperf, so it is not replaced. Give another path, or remove it."
    )
    file.write_text(json.dumps(one))
    assert not_a_page(file) == (
        f"{file} is a loaderperf document, which is not replaced by another kind. Give another path."
    )
    file.write_text(page([one]), encoding="utf-8")
    assert not_a_page(file) is None
    assert not_a_page(tmp_path) == f"cannot write {tmp_path}. Expected the path of a file in a writable folder."


def test_the_charting_library_is_what_its_authors_published():
    """By the hashes of d3 7.9.2 and @observablehq/plot 0.6.17 from npm; `make page-library` fetches them."""
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in VENDOR.glob("*.js")}
    assert found == {"d3.min.js": "912111098ea99503", "plot.umd.min.js": "4358086467740777"}
