"""Threads, processes and descriptors that are left after each epoch, and memory that is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.reading import HALF, last_name, plain

_KEPT = 0.9  # of what was added
_CACHE = "give it keys that come again, such as the index of the sample, or remove the oldest entries"
_EPOCHS = 2  # needed, to see growth
_SHARED_MAKERS = frozenset(["SharedMemory", "ShareableList", "share_memory_", "moveToSharedMemory", "_new_shared"])


def _grows(alive: tuple[int, ...]) -> float:
    """By how much, an epoch, if it grows in each; else 0."""
    steps = [after - before for before, after in itertools.pairwise(alive)]
    return sum(steps) / len(steps) if steps and min(steps) >= 1 else 0.0


def _left(ledger: Ledger, kind: str, rule: str, fix: str) -> Iterator[Finding]:
    for event in ledger.events:
        each = _grows(event.alive)
        if event.kind == kind and each:
            many = "processes" if kind == "process" else f"{kind}s"
            yield Finding(
                rule,
                f"{each:.0f} {kind if each == 1 else many} of this line still run{'s' if each == 1 else ''} "
                "after each epoch, "
                f"{event.alive[-1]} after {len(event.alive)}",
                event.file,
                event.line,
                event.function,
                each,
                f"{many} an epoch",
                fix,
            )


def _threads(ledger: Ledger) -> Iterator[Finding]:
    return _left(ledger, "thread", THREADS.id, THREADS.fix)


def _processes(ledger: Ledger) -> Iterator[Finding]:
    return _left(ledger, "process", PROCESSES.id, PROCESSES.fix)


def _descriptors(ledger: Ledger) -> Iterator[Finding]:
    each = _grows(tuple(epoch.descriptors for epoch in ledger.timed))
    opens = [event for event in ledger.events if event.kind == "open" and event.count >= HALF * each * ledger.epochs]
    sites = [site for site in ledger.sites if site.path_calls >= HALF * each * ledger.epochs and not site.user]
    at = min(opens, key=lambda event: abs(event.count - each * ledger.epochs), default=None) or next(iter(sites), None)
    if not each or at is None:
        return
    yield Finding(
        DESCRIPTORS.id,
        f"{each:.0f} file{'s' * (each != 1)} more {'are' if each != 1 else 'is'} open after each epoch",
        at.file,
        at.line,
        at.function,
        each,
        "descriptors an epoch",
        DESCRIPTORS.fix,
    )


def _shared(ledger: Ledger) -> Iterator[Finding]:
    each = _grows(tuple(epoch.shared for epoch in ledger.timed))
    made = [site for site in ledger.sites if _makes_shared(site) and site.count >= HALF * each * ledger.epochs]
    if each and made:
        at = max(made, key=lambda site: site.count)
        yield Finding(
            SHARED.id,
            f"{plain(at.callee)} leaves {each:.0f} area{'s' * (each != 1)} of shared memory after each epoch",
            at.file,
            at.line,
            at.function,
            each,
            "areas an epoch",
            SHARED.fix,
        )


def _makes_shared(site: Site) -> bool:
    return last_name(site.callee) in _SHARED_MAKERS and not site.user


def _is_kept(ledger: Ledger, site: Site) -> bool:
    """Whether a list gets longer over epochs, by more than small things."""
    if site.in_workers and not ledger.loader.persistent_workers:
        return False  # they end with the epoch
    if site.held and not _grows(site.held):
        return False  # a cache that is full after the first epoch
    epoch = ledger.batches / max(1, ledger.epochs)
    appends = site.callee in ("list.append", "collections.deque.append", "list.extend") or site.kind == "store"
    more_than_epoch = site.count > epoch * 1.5 and site.holds > epoch * 1.5
    return appends and more_than_epoch and site.holds >= _KEPT * site.count / max(1, site.processes)


def _memory(ledger: Ledger) -> Iterator[Finding]:
    if ledger.whole_epochs < _EPOCHS:
        return
    for site in ledger.sites:
        if _is_kept(ledger, site):
            each = site.count / ledger.epochs
            yield Finding(
                MEMORY.id,
                f"{'this assignment' if site.kind == 'store' else plain(site.callee)} keeps {each:.0f} "
                f"object{'s' * (f'{each:.0f}' != '1')} more in every epoch, {site.holds} so far",
                site.file,
                site.line,
                site.function,
                each,
                "objects an epoch",
                _CACHE if site.kind == "store" else MEMORY.fix,
            )


THREADS = Rule(
    id="thread-leak",
    reason="Threads of earlier epochs keep their queues, batches and files, and take turns with those that work.",
    example="def __iter__(self):\n    threading.Thread(target=self._poll, daemon=True).start()",
    fix="end the thread in a finally of the iterator, or keep one thread for all epochs",
    limits="A thread that a C library starts is not seen.",
    find=_threads,
)
PROCESSES = Rule(
    id="process-leak",
    reason="Processes of earlier epochs keep memory and descriptors, and may still use the CPU.",
    example="def __iter__(self):\n    self.helper = subprocess.Popen(command)",
    fix="end the process in a finally of the iterator, or keep one for all epochs",
    limits="A process that a C library starts is not seen.",
    find=_processes,
)
DESCRIPTORS = Rule(
    id="descriptor-leak",
    reason="Each open file takes a descriptor; a process has some thousand, after which every open fails.",
    example="def __iter__(self):\n    self.files.append(open(self.path))",
    fix="open with `with`, or keep one file for all epochs",
    limits="Files that workers leave open end with the worker and are not counted.",
    find=_descriptors,
    yields_to=("file-reopened",),
)
MEMORY = Rule(
    id="memory-kept",
    reason="Memory grows with every epoch until the machine is out of it, and pages are no longer reused.",
    example="for batch in loader:\n    self.seen.append(batch)",
    fix="keep what is needed (a count, a mean), or clear the list when an epoch starts",
    limits="Lists, deques and dicts are watched, other containers are not.",
    find=_memory,
)
SHARED = Rule(
    id="shared-memory-leak",
    reason="Shared memory outlives the process that made it, and counts against the machine's memory until it is "
    "removed: /dev/shm is full after some epochs.",
    example="area = SharedMemory(create=True, size=batch.nbytes)\nnp.ndarray(shape, dtype, area.buf)[:] = batch",
    fix="call area.close() and area.unlink() when the batch is done, or use one area for all batches",
    limits="Linux only; areas that a C library makes, or that workers leave, are not given a line.",
    find=_shared,
)
