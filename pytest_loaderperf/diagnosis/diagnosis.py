"""A diagnosis: the ledger of a loader, what its rules found, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_loaderperf.diagnosis.advice import Advice, advise, not_tried
from pytest_loaderperf.diagnosis.findings import Finding, Gain, near_gain, sample_ns
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.passes.changes import Change
from pytest_loaderperf.diagnosis.passes.running import gain_of_change, observe
from pytest_loaderperf.diagnosis.rules import findings_of
from pytest_loaderperf.diagnosis.rules.reading import POOLS, last_name
from pytest_loaderperf.measurement.factory import is_factory

SCHEMA = "loaderperf-diagnosis/1"
DEFAULT_SECONDS = 8.0  # of each of the two passes, at most
_MOST_TRIED = 3  # changes that are measured
_LEAST_SHARE = 0.01  # of a batch's time: less is not worth a line
_COPIES = frozenset(
    "clone copy deepcopy contiguous tensor array ascontiguousarray astype cat stack concatenate".split()
)
_GIVE_VIEWS = ("arrow-to-python", "list-to-array")  # rules, where it is done once, in advance
_OF_SAMPLES = {"__getitem__", "__getitems__"}  # functions that give more than what a loop in them computes
_SYNCS = frozenset("item cpu tolist numpy synchronize nonzero".split())


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the user's code: its share of the time, and the call in it that takes most."""

    file: str
    line: int
    function: str
    callee: str
    share: float


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a loader. True if there are findings. ``untried``: settings, and why, in words."""

    name: str
    ledger: Ledger
    findings: list[Finding]
    advice: tuple[Advice, ...] = ()
    untried: tuple[str, ...] = ()

    @property
    def fastest_first(self) -> list[Advice]:
        """The advice, with the largest gain first."""
        return sorted(self.advice, key=lambda one: -one.gain.value)

    @property
    def samples_per_second(self) -> float:
        """Throughput of the timing pass; 0 if nothing was timed."""
        per_sample_ns = sample_ns(self.ledger)
        return 1e9 / per_sample_ns if per_sample_ns else 0.0

    @property
    def workers_busy(self) -> float:
        """Share of the workers' time in which they worked; 0 without workers."""
        ns, workers = self.ledger.stages.ns, self.ledger.loader.num_workers
        wall_ns = sum(epoch.first_ns + epoch.waits_ns for epoch in self.ledger.timed) * workers
        return min(1.0, sum(ns.get(stage, 0) for stage in ("fetch", "collate", "send")) / wall_ns) if wall_ns else 0.0

    @property
    def stages(self) -> dict[str, float]:
        """Shares of a batch's time, which add up to 1: ``index``, ``fetch``, ``collate``, ``hand-over``, ``pin``.

        With workers these are shares of the time that they and the main process work. Empty for a loader that is not
        built on torch's DataLoader: there ``lines`` tell.
        """
        ns = self.ledger.stages.ns
        if not self.ledger.loader.torch_like or not ns.get("fetch"):
            return {}
        spent = {stage: ns.get(stage, 0) for stage in ("index", "fetch", "collate", "pin")}
        if self.ledger.loader.num_workers:
            spent["hand-over"] = ns.get("send", 0) + ns.get("receive", 0)
        total = sum(spent.values())
        return {stage: part / total for stage, part in spent.items() if part}

    def lines(self, most: int = 5) -> list[Line]:
        """The user's lines that take most time in the calls they make, largest first."""
        by_line: dict[tuple[str, int, str], list[Site]] = {}
        for site in self.ledger.sites:
            if site.own_ns > 0:
                by_line.setdefault((site.file, site.line, site.function), []).append(site)
        total = sum(site.own_ns for sites in by_line.values() for site in sites)
        found = [
            Line(*at, max(sites, key=lambda site: site.own_ns).callee, sum(site.own_ns for site in sites) / total)
            for at, sites in by_line.items()
        ]
        return [line for line in sorted(found, key=lambda line: -line.share)[:most] if line.share >= _LEAST_SHARE]

    def lines_of(self, stage: str) -> list[Line]:
        """The user's lines in a stage, largest first, as shares of a batch's time that add up to the stage's at most.

        What is left of it is between these lines: Python itself, torch's own loop, and code of libraries.
        """
        by_line: dict[tuple[str, int, str], dict[str, int]] = {}
        for site in self.ledger.sites:
            ns = getattr(site, f"{stage}_ns", 0)
            if ns > 0:
                calls = by_line.setdefault((site.file, site.line, site.function), {})
                calls[site.callee] = calls.get(site.callee, 0) + ns
        total = max(self.ledger.counted_ns.get(stage, 0), sum(sum(calls.values()) for calls in by_line.values()))
        of_batch = self.stages.get(stage, 0.0)
        found = [
            Line(*at, max(calls, key=lambda callee: calls[callee]), of_batch * sum(calls.values()) / total)
            for at, calls in by_line.items()
        ]
        return sorted(found, key=lambda line: -line.share)

    @property
    def data_wait(self) -> float | None:
        """The share of its time that a consumer with ``step_seconds`` waits for batches, after an epoch's first one.

        None without a step, and if no epoch had a second batch.
        """
        steps_ns = sum(epoch.steps_ns for epoch in self.ledger.stepped)
        waits_ns = sum(epoch.waits_ns for epoch in self.ledger.stepped)
        return waits_ns / (waits_ns + steps_ns) if steps_ns else None

    @property
    def copies_per_batch(self) -> float:
        """Calls in the user's code that copy an array, for each batch."""
        copies = [
            site.count
            for site in self.ledger.sites
            if last_name(site.callee) in _COPIES and site.result.nbytes and not site.aliases and not site.user
        ]
        return sum(copies) / max(1, self.ledger.batches)

    @property
    def executors_made(self) -> int:
        """Executors and pools that the user's code makes in an epoch; those made before it do not count."""
        made = sum(site.count for site in self.ledger.sites if last_name(site.callee).endswith(POOLS) and not site.user)
        return round(made / max(1, self.ledger.epochs))

    @property
    def files_opened(self) -> int:
        """Files that the user's code opens in an epoch, in all processes."""
        opened = sum(event.count for event in self.ledger.events if event.kind == "open")
        return round(opened / max(1, self.ledger.epochs))

    @property
    def syncs_per_batch(self) -> float:
        """Calls in the user's code that wait for the GPU to read its memory, for each batch."""
        waits = [
            site for site in self.ledger.sites if last_name(site.callee) in _SYNCS and site.argument.device == "cuda"
        ]
        return sum(site.count for site in waits) / max(1, self.ledger.batches)

    @property
    def leaks(self) -> int:
        """Threads, processes, descriptors and objects that each epoch leaves, as far as rules found a line for them."""
        rules = ("thread-leak", "process-leak", "descriptor-leak", "memory-kept")
        return round(sum(finding.count for finding in self.findings if finding.rule in rules))

    def __bool__(self) -> bool:
        return bool(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: findings, stages, lines and throughput."""
        return {
            "schema": SCHEMA,
            "loader": self.name,
            "samples_per_second": self.samples_per_second,
            "copy_limit_fraction": self.copy_limit_fraction,
            "workers_busy": self.workers_busy,
            "stages": self.stages,
            "lines": [_line_json(line) for line in self.lines()],
            "stage_lines": {stage: [_line_json(line) for line in self.lines_of(stage)] for stage in self.stages},
            "queue": asdict(self.ledger.queue) if self.ledger.queue.asks else None,
            "step": self._step_json(),
            "advice": [asdict(one) for one in self.advice],
            "untried": list(self.untried),
            "findings": [finding.to_json() for finding in self.findings],
            "unseen": list(self.ledger.unseen),
        }

    def _step_json(self) -> dict[str, float | None] | None:
        if not self.ledger.step_ns:
            return None
        wait = self.data_wait
        return {
            "seconds": self.ledger.step_ns / 1e9,
            "data_wait": wait,
            "accelerator_utilisation": None if wait is None else 1 - wait,
        }

    @property
    def copy_limit_fraction(self) -> float:
        """Throughput as a fraction of what copying the same bytes would give; 0 if that was not measured."""
        batches = sum(epoch.batches for epoch in self.ledger.timed)
        spent_ns = sum(epoch.first_ns + epoch.waits_ns for epoch in self.ledger.timed)
        return self.ledger.copy_ns * batches / spent_ns if spent_ns else 0.0


def _line_json(line: Line) -> dict[str, Any]:
    return {"file": line.file, "line": line.line, "callee": line.callee, "share": line.share}


def diagnose(
    source: object,
    *,
    name: str = "",
    seconds: float = DEFAULT_SECONDS,
    epochs: int = 3,
    silent: Collection[str] = (),
    threads: int | None = 1,
    tries: bool = False,
    advises: bool = False,
    count: Callable[[Any], int] | None = None,
    progress: Callable[[str], object] = lambda _text: None,
    step_seconds: float = 0.0,
    traced: bool = False,
) -> Diagnosis:
    """Observe a loader, or the factory of one, in child processes, and say why it is slow.

    Each of two passes iterates for at most ``seconds`` or ``epochs`` epochs. Rules in ``silent`` do not fire.
    ``threads``: of torch's operations; None, its own choice, hangs if this process has used torch's threads.
    ``tries``: where the doctor can make the change itself, it measures the gain in place of predicting it. ``advises``:
    it tries settings. Each of both takes ``seconds``, as does a pass whose consumer takes ``step_seconds`` for each
    batch. ``traced``: the ledger has a timeline, of that pass if there is one. Raises LoaderError if the loader fails.
    """
    paced: dict[str, Any] = {"step_seconds": step_seconds, "traced": traced}
    ledger = observe(source, seconds, epochs=epochs, count=count, threads=threads, progress=progress, **paced)
    findings = findings_of(ledger, silent=silent)
    how: dict[str, Any] = {"count": count, "threads": threads}
    if tries:
        _measure_fixes(source, ledger, findings, seconds, progress, **how)
    advice: tuple[Advice, ...] = ()
    untried: tuple[str, ...] = ()
    if advises:
        reason = (
            not_tried(ledger) if is_factory(source) else "settings: the loader was given as an object, not as a factory"
        )
        advice, untried = ((), (reason,)) if reason else advise(source, ledger, seconds, progress, **how)
    return Diagnosis(name or ledger.loader.kind, ledger, findings, advice, untried)


def _measure_fixes(
    source: object,
    ledger: Ledger,
    findings: list[Finding],
    seconds: float,
    progress: Callable[[str], object],
    **how: Any,
) -> None:
    """Replace predicted gains of the first findings by measured ones, where the change can be made."""
    loader = ledger.loader
    stays = loader.persistent_workers or not loader.num_workers  # a new worker would have nothing to give again
    called = {last_name(site.callee) for site in ledger.sites if site.user}
    changes = [
        Change(
            *(one.rule, one.file, one.line, one.callee),
            calls=last_name(one.function) in called - _OF_SAMPLES,
            views=one.rule in _GIVE_VIEWS and one.unit.endswith("sample"),
        )
        for one in findings[:_MOST_TRIED]
    ]
    possible = [change.possible and (stays or not change.replays) for change in changes]
    for number, change in enumerate(changes):
        if possible[number]:
            progress(f"measuring what the fix of {change.rule} brings")
            gain = gain_of_change(source, change, seconds / sum(possible), **how)
            if gain is not None:
                low, value, high = gain
                found = Gain(value, low, high, "measured") if change.exact else near_gain(value, low, high)
                findings[number] = replace(findings[number], gain=found)
