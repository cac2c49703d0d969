"""Text from outside stays text, as GitHub's Markdown is read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.inert import code, prose

GFM = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# What GitHub would find in text outside of code: mentions, issues, addresses.
ACTIVE = re.compile(r"@\w|#\d|\bgh-\d|://|\bwww\.", re.IGNORECASE)
HOSTILE = st.text(st.sampled_from("`|\\<>&@#*_~![]()$ \n\ra1é:/."), min_size=1, max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", "@octocat", "#12", "owner/name#1", "GH-3", "https://example.org", "www.example.org"]
)


def cells(written):
    """The tokens inside the two cells of a row that holds ``written`` between two tables' borders."""
    tokens = GFM.parse(f"| a | b |\n| --- | --- |\n| {written} | end |\n")
    assert [token.type for token in tokens].count("td_open") == 2
    inline = [token for token in tokens if token.type == "inline"]
    assert inline[-1].content == "end"
    return inline[-2].children


@given(HOSTILE)
@settings(deadline=None)
def test_code_is_one_code_element_with_the_text(text):
    children = cells(code(text))
    shown = printable(text)
    if children[0].type == "code_inline":
        assert [(child.type, child.content) for child in children] == [("code_inline", shown)]
    else:
        assert [children[0].content, children[-1].content] == ["<code>", "</code>"]
        inside = children[1:-1]
        assert {child.type for child in inside} <= {"text", "text_special"}
        assert "".join(child.content for child in inside) == shown


@given(HOSTILE)
@settings(deadline=None)
def test_prose_is_text_without_anything_that_github_links(text):
    children = cells(f"x{prose(text)}")
    assert {child.type for child in children} <= {"text", "text_special"}
    shown = "".join(child.content for child in children)
    assert shown.replace("\u200b", "").rstrip() == f"x{printable(text)}".rstrip()
    assert ACTIVE.search(shown) is None


@pytest.mark.parametrize("text", ["a >= 0.97 * b.c", "data_wait <= 0.1 s", "pkg/data.py:9"])
def test_common_text_reads_well_as_it_is_written(text):
    assert code(text) == f"`{text}`"
