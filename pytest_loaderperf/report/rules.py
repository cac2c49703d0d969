"""The doctor's rules as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_loaderperf.diagnosis import Rule


def rules_page(rules: Iterable[Rule]) -> str:
    """Markdown: a section for each rule, with its reason, an example, the fix and its limits."""
    return "\n".join(_section(rule) for rule in rules)


def _section(rule: Rule) -> str:
    limits = f"\nLimits: {rule.limits}\n"
    return f"### {rule.id}\n\n{rule.reason}\n\n```python\n{rule.example}\n```\n\nFix: {rule.fix}.\n{limits}"
