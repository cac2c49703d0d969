"""Epochs that end late, because something still waits."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from pytest_loaderperf.diagnosis.findings import Finding, Gain, Rule, share_of_time
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import last_name, plain
from pytest_loaderperf.diagnosis.rules.sleeping import SHARE

_NS = 100_000_000
_FEWEST_OTHERS = 2  # batches: the first and the last
_SHARE = 0.1  # of an epoch
_LONG = 0.4  # of the exit: a wait that explains it
_SPREAD = 0.1  # of an epoch's time
_WAITS = frozenset("get wait sleep join acquire result shutdown put select poll recv __enter__".split())


def _waits(ledger: Ledger, exit_ns: float) -> list[Site]:
    """Waits of the user's own lines that explain the exit, the main thread's first, longest first."""
    waits = [site for site in ledger.sites if last_name(site.callee) in _WAITS and not site.user]
    long = [site for site in waits if site.longest_ns >= _LONG * exit_ns]
    return sorted(long, key=lambda site: (site.in_helper_thread > 0, -site.longest_ns))


def _late_ns(epoch: EpochSeen) -> float:
    """What the last batch took longer than others: a stream may end while it makes that one."""
    others = epoch.batches - _FEWEST_OTHERS
    usual_ns = (epoch.waits_ns - epoch.last_ns) / others if others > 0 else epoch.last_ns
    late_ns = epoch.last_ns - usual_ns
    return late_ns if late_ns >= _NS else 0


def _find(ledger: Ledger) -> Iterator[Finding]:
    epochs = [epoch for epoch in ledger.timed if epoch.whole]
    if not epochs:
        return
    epochs = epochs[1:] or epochs  # the first one loads things
    exits = [epoch.exit_ns + _late_ns(epoch) for epoch in epochs]
    waits = _waits(ledger, median(exits))
    if not waits:
        exits = [epoch.exit_ns for epoch in epochs]
    exit_ns = median(exits)
    all_ns = [epoch.first_ns + epoch.waits_ns + epoch.exit_ns for epoch in epochs]
    gains = sorted(all_ / max(1, all_ - late) for late, all_ in zip(exits, all_ns, strict=True))
    share = 1 - 1 / median(gains)
    if exit_ns < _NS or share < _SHARE:
        return
    waits = waits or _waits(ledger, exit_ns)
    at, others = (waits[0], waits[1:]) if waits else (None, [])
    if at and at.callee == "time.sleep" and share_of_time(ledger, at) >= SHARE:
        return  # the rule of sleeps names it
    helper = next((site for site in others if site.in_helper_thread), None)
    why = f"; its thread waits at line {helper.line}, {plain(helper.callee)}" if helper else ""
    yield Finding(
        RULE.id,
        f"an epoch ends {exit_ns / 1e9:.2f} s after its last batch, {share:.0%} of its time{why}",
        at.file if at else ledger.loader.file,
        at.line if at else ledger.loader.line,
        at.function if at else "",
        exit_ns / 1e9,
        "seconds an epoch",
        RULE.fix,
        Gain(median(gains), gains[0] * (1 - _SPREAD), gains[-1] * (1 + _SPREAD)),
    )


RULE = Rule(
    id="slow-exit",
    reason="A helper thread that looks only now and then whether it should end holds up the end of every epoch.",
    example="def _run(self):\n    while not self.stopped:\n        item = self.queue.get(timeout=5)",
    fix="wake the thread: put a sentinel into its queue, or set the Event that it waits for",
    limits="Exits below 0.1 s or a tenth of an epoch are not reported.",
    find=_find,
    yields_to=("workers-restarted",),
)
