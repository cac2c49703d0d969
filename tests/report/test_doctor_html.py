"""The doctor's page for a notebook."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pytest_loaderperf.diagnosis import Advice, Diagnosis, Finding, Gain, Ledger
from pytest_loaderperf.diagnosis.ledger import LoaderFacts, Site, Stages
from pytest_loaderperf.report.doctor_html import doctor_html

EVIL = "<script>alert('x')</script>&\x1b[31m"
LEDGER = Ledger(
    loader=LoaderFacts(kind="DataLoader", torch_like=True, batch_size=32, dataset="Cells"),
    samples=320,
    stages=Stages(ns={"fetch": 75, "collate": 25}),
    sites=(Site("data.py", 41, "f", "call", "zlib.decompress", count=320, own_ns=60),),
    unseen=("the end of an epoch",),
)


def finding(file, line=2, **how):
    return Finding("repeated-work", "said", str(file), line, "f", 1.0, "a sample", "do it once", **how)


def page(findings=(), advice=(), untried=(), name="mypkg:make_loader", ledger=LEDGER):
    return doctor_html(Diagnosis(name, ledger, list(findings), tuple(advice), tuple(untried)))


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def test_stages_are_bars_of_their_share():
    widths = [attrs["style"] for tag, attrs in parsed(page()) if attrs.get("class") == "bar"]
    assert widths == ["width:75.0%", "width:25.0%", "width:100.0%"]


def test_a_finding_has_its_code_line_its_fix_and_its_gain(tmp_path):
    file = tmp_path / "data.py"
    file.write_text("def f():\n    return json.loads('<1>')\n")
    html = page([finding(file, gain=Gain(2.6, 2.4, 2.8, "measured"))])
    parsed(html)
    assert "<pre>return json.loads(&#x27;&lt;1&gt;&#x27;)</pre>" in html
    assert "<b>2.6x (2.4 to 2.8), measured</b>" in html
    assert "Fix: do it once." in html


def test_what_was_tried_is_shown_with_the_fastest_first():
    advice = [
        Advice("DataLoader(dataset, ...)", Gain(1.2, 0.9, 1.5, "measured")),
        Advice("ReferenceLoader(dataset, ...)", Gain(2.0, 1.8, 2.2, "measured"), "fits: 8 MB"),
    ]
    html = page(advice=advice, untried=["pin_memory: no CUDA device here"])
    assert html.index("ReferenceLoader(") < html.index("DataLoader(dataset")
    assert '<span class="good">2x (1.8 to 2.2)</span></div><small>fits: 8 MB</small>' in html
    assert "<span>1.2x (0.9 to 1.5)</span>" in html
    assert "not tried: pin_memory: no CUDA device here" in html
    assert "not seen: the end of an epoch" in html


def test_without_mistakes_it_says_so():
    assert "No mistakes found." in page()


def test_it_has_no_script_and_nothing_from_elsewhere():
    html = page([finding("nowhere.py")])
    assert not re.search(r"<script|https?:|@import|url\(", html)
    assert "prefers-color-scheme:dark" in html


@pytest.mark.parametrize("where", ["name", "message", "fix", "file", "callee", "advice", "note", "untried", "unseen"])
def test_text_from_outside_is_escaped(where):
    text = {one: EVIL if one == where else "plain" for one in ("message", "fix", "file")}
    found = Finding("repeated-work", text["message"], text["file"], 1, "f", 1.0, "a sample", text["fix"])
    ledger = Ledger(
        sites=(Site("data.py", 1, "f", "call", EVIL, own_ns=1),) if where == "callee" else (),
        unseen=(EVIL,) if where == "unseen" else (),
    )
    shown = Advice(EVIL if where == "advice" else "a", Gain(1, 1, 1), EVIL if where == "note" else "")
    html = page([found], [shown], [EVIL] if where == "untried" else [], EVIL if where == "name" else "n", ledger)
    tags = {tag for tag, _ in parsed(html)}
    assert "script" not in tags
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
