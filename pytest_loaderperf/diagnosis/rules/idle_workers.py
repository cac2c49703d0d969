"""Workers that get no data, and workers that all read everything."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, gain_of
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules.reading import last_name

_SHARE = 0.05  # of what a worker would get if all got the same


def _made(ledger: Ledger) -> list[int]:
    workers = ledger.loader.num_workers
    made = [ledger.stages.by_worker.get(str(worker), 0) for worker in range(workers)]
    return made if workers > 1 and ledger.loader.iterable else []


def _line(ledger: Ledger) -> tuple[str, int]:
    """The first loop of the dataset's ``__iter__``, or its first call: it decides what a worker reads."""
    loader = ledger.loader
    inside = [
        (site.kind != "loop", site.line)
        for site in ledger.sites
        if site.file == loader.dataset_file
        and site.function.endswith("__iter__")
        and site.line >= loader.dataset_line
        and last_name(site.callee) != "get_worker_info"
    ]
    return loader.dataset_file or loader.file, min(inside, default=(False, loader.dataset_line or loader.line))[1]


def _idle(ledger: Ledger) -> Iterator[Finding]:
    made = _made(ledger)
    mean = sum(made) / max(1, len(made))
    idle = len([count for count in made if count < _SHARE * mean])
    if idle:
        busy = len(made) - idle
        yield Finding(
            IDLE.id,
            f"{idle} of {len(made)} workers get no data: {busy} {'makes' if busy == 1 else 'make'} all "
            f"{sum(made)} samples",
            *_line(ledger),
            "",
            idle,
            "workers",
            IDLE.fix,
            gain_of(idle / len(made)),
        )


def _duplicated(ledger: Ledger) -> Iterator[Finding]:
    made, first = _made(ledger), ledger.stages.first_samples
    firsts = [text for text in first.values() if text and text != "?"]
    if made and not ledger.constant and len(set(made)) == 1 and len(firsts) == len(made) and len(set(firsts)) == 1:
        yield Finding(
            DUPLICATED.id,
            f"each of {len(made)} workers gives the same {made[0] // max(1, ledger.epochs)} samples: "
            f"every sample comes {len(made)} times",
            *_line(ledger),
            "",
            len(made),
            "times a sample",
            DUPLICATED.fix,
        )


IDLE = Rule(
    id="idle-workers",
    reason="Shards are divided among workers; a worker without a shard has nothing to do.",
    example="def __iter__(self):\n    info = get_worker_info()\n    for file in self.files[info.id::info.num_workers]:",
    fix="have at least as many shards as workers, or divide rows: islice(rows, info.id, None, info.num_workers)",
    limits="Only iterable-style datasets of torch's DataLoader are watched.",
    find=_idle,
)
DUPLICATED = Rule(
    id="duplicated-data",
    reason="Each worker has a copy of the dataset and iterates all of it, unless the dataset divides it.",
    example="class Lines(IterableDataset):\n    def __iter__(self):\n        yield from open(self.path)",
    fix="divide it: info = get_worker_info(); yield from islice(rows, info.id, None, info.num_workers)",
    limits="Seen by the first sample of each worker and by how many each made.",
    find=_duplicated,
)
