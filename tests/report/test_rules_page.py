"""docs/doctor.md has every rule as the rule says it. To write it again: python -m tests.report.test_rules_page"""

from __future__ import annotations

from pathlib import Path

from pytest_loaderperf.diagnosis import RULES
from pytest_loaderperf.report.rules import rules_page

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
MARK = "## Rules\n\n"


def written():
    head, _, _ = PAGE.read_text("utf-8").partition(MARK)
    return head + MARK + rules_page(RULES)


def test_the_page_has_every_rule_as_the_rule_says_it():
    assert PAGE.read_text("utf-8") == written()


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
