"""Random generators that give every worker the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import plain

_OF_TORCH = "make it in the worker: torch.Generator().manual_seed(torch.initial_seed()) on first use"


def _find(ledger: Ledger) -> Iterator[Finding]:
    seeds = [site for site in ledger.sites if site.callee.endswith("random.seed") or site.callee == "torch.manual_seed"]
    for site in ledger.sites:
        _, times = next(iter(Counter(site.random_states).most_common(1)), ("", 0))
        if times < 2 or not site.in_workers:  # noqa: PLR2004 said beside it
            continue
        seed = next((one for one in seeds if one.in_workers and one.processes >= 2), None)  # noqa: PLR2004 said beside it
        made_file, _, made_line = site.made_at.rpartition(":")
        at = (seed if "RandomState" in site.callee and not made_file else None) or site
        yield Finding(
            RULE.id,
            f"{plain(site.callee)} starts from the same state in {times} worker processes, "
            "so they draw the same numbers",
            made_file or at.file,
            int(made_line) if made_line else at.line,
            at.function,
            times,
            "worker processes",
            _OF_TORCH if site.callee.startswith("torch.") else RULE.fix,
        )
        return


RULE = Rule(
    id="same-random-numbers",
    reason="A generator that exists before the workers do is copied into each: augmentations repeat, and so do epochs.",
    example="def __init__(self):\n    self.rng = np.random.default_rng(0)\n\n\ndef __getitem__(self, i):\n    "
    "return self.rows[i] + self.rng.normal()",
    fix="make it in the worker: np.random.default_rng([seed, torch.initial_seed()]) on first use",
    limits="A generator that is used once in a worker is not reported.",
    find=_find,
)
