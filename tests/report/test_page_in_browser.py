"""The report page in a browser: every chart is drawn, no complaint, nothing wider than the page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise

import pytest

from pytest_loaderperf.report.document import claim_entry
from pytest_loaderperf.report.page import page
from tests.report import results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (400, 1600)
HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>"

WATCH = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("refused: " + event.blockedURI));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...told) => problems.push(told.join(" "));
</script>"""
LOOK = """<script>
const frames = [...document.querySelectorAll("iframe")];
const look = (frame) => {
  const { document: page, problems, hostile } = frame.contentWindow, root = page.documentElement;
  for (const part of page.querySelectorAll("details")) part.open = true;
  const boxes = [...page.querySelectorAll("[data-chart]")];
  return {
    problems, hostile: hostile || 0, width: root.clientWidth, wide: root.scrollWidth, charts: boxes.length,
    drawn: boxes.filter((box) => box.querySelector("svg path, svg line, svg circle, svg rect")).length,
    unnamed: boxes.filter((box) => !box.getAttribute("aria-label")).length, invalid: /NaN|Infinity|undefined/.test(
      [...page.querySelectorAll("svg")].map((svg) => svg.outerHTML).join()),
    unreachable: [...page.querySelectorAll(".wide")].filter(
      (part) => part.scrollWidth > part.clientWidth + 1 && part.tabIndex !== 0).length,
    headings: [...page.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1])),
  };
};
addEventListener("load", () => setTimeout(() => {
  const first = frames.map((frame) => look(frame).drawn);
  frames.forEach((frame) => frame.contentWindow.dispatchEvent(new Event("beforeprint")));
  setTimeout(() => {
    const all = frames.map((frame, i) => ({ ...look(frame), first: first[i] }));
    document.getElementById("seen").textContent = JSON.stringify(all);
  }, 1000);
}, 3000));
</script>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a browser shows of a page at two widths, in one start."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, to draw the page in")
    one = results.each_verdict()
    names = [HOSTILE, *(f"test_folded_{number}" for number in range(4))]
    few, many = results.ratio_verdict(1.2, pairs=1), results.ratio_verdict(1.2, pairs=500)
    hostile = results.result([results.run(name, [many], notes=[HOSTILE], stages={}, batches=40) for name in names])
    hostile["runs"][0]["claims"] += [claim_entry(few), claim_entry(many) | {"needed": 1e308, "low": 0.0, "high": None}]
    hostile["runs"][0]["sides"][1]["name"] = HOSTILE
    hosts = [HOSTILE, "10.0.0.1", *(f"a-host-with-a-long-name-{n}.example.org" for n in range(6))]
    jobs = [
        results.job(64, hosts, slow=41),
        results.job(2, slow=1),
        results.job(1),
        results.job(5, hosts, claims=False),
    ]
    jobs[3]["ranks"][2]["metrics"]["throughput"] |= {"value": None, "low": None, "high": None}
    hostile["runs"] += jobs
    text = page([one | {"file": "a.json"}, hostile | {"file": HOSTILE}]).replace("<head>", "<head>" + WATCH, 1)
    frames = [f'<iframe width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>' for width in WIDTHS]
    file = tmp_path_factory.mktemp("page") / "probe.html"
    file.write_text(f'<!DOCTYPE html><meta charset="utf-8">{"".join(frames)}<pre id="seen"></pre>{LOOK}')
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={file.parent / 'profile'}"]
    command += ["--virtual-time-budget=12000", "--dump-dom", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', shown, re.DOTALL)[1]))


def test_every_chart_is_drawn_without_a_complaint(seen):
    for frame in seen:
        assert (frame["problems"], frame["invalid"]) == ([], False)
        assert frame["drawn"] == frame["charts"] > 20


def test_only_charts_near_the_screen_are_drawn_until_all_are_printed(seen):
    on_screen, _ = seen  # the frame that is itself on the screen
    assert 0 < on_screen["first"] < on_screen["charts"] / 2


def test_nothing_is_wider_than_the_page(seen):
    narrow, wide = seen
    assert (narrow["width"] <= 400, wide["width"] > 1500) == (True, True)
    assert [frame["wide"] - frame["width"] for frame in seen] == [0, 0]


def test_what_scrolls_is_reached_by_the_keyboard(seen):
    assert [frame["unreachable"] for frame in seen] == [0, 0]


def test_nothing_from_outside_is_run(seen):
    assert [frame["hostile"] for frame in seen] == [0] * len(seen)


def test_every_chart_has_words_and_no_heading_level_is_left_out(seen):
    for frame in seen:
        assert frame["unnamed"] == 0
        levels = frame["headings"]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
