"""The record of a job, from those of its ranks: the samples of all of them in the time of the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_loaderperf.measurement import Record
from pytest_loaderperf.measurement.record import (
    Effort,
    EpochRecord,
    ResourceRecord,
    StartRecord,
    SteadyRecord,
    StepRecord,
)


def merged(records: Sequence[Record]) -> Record:
    """The job's record of what every rank has observed at the same time, by rank; it keeps theirs.

    Only durations are compared, each by the clock of its own rank.
    """
    steady = [record for record in records if isinstance(record, SteadyRecord)]
    if steady:
        return _steady(steady)
    starts = [record for record in records if isinstance(record, StartRecord)]
    if starts:
        return StartRecord(max(start.first_batch_ns for start in starts), tuple(starts))
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    if epochs:
        slowest = max(epochs, key=lambda epoch: epoch.epoch_ns)
        samples, whole = sum(epoch.samples for epoch in epochs), all(epoch.whole for epoch in epochs)
        return replace(slowest, samples=samples, whole=whole, ranks=tuple(epochs))
    steps = [record for record in records if isinstance(record, StepRecord)]
    if steps:
        return _steps(steps)
    used = [record for record in records if isinstance(record, ResourceRecord)]
    peak_bytes, cpu_ns = max(one.peak_bytes for one in used), sum(one.cpu_ns for one in used)
    return ResourceRecord(peak_bytes, cpu_ns, sum(one.samples for one in used), tuple(used))


def _steady(trials: Sequence[SteadyRecord]) -> SteadyRecord:
    """A batch of the job is there when the slowest rank has its own."""
    efforts = [trial.effort for trial in trials if trial.effort is not None]
    return SteadyRecord(
        _slowest(*(trial.latencies_ns for trial in trials)),
        max(trial.wall_ns for trial in trials),
        sum(trial.samples for trial in trials),
        sum(trial.nbytes for trial in trials),
        untimed_ns=_slowest(*(trial.untimed_ns for trial in trials)),
        effort=_largest(efforts) if len(efforts) == len(trials) else None,
        began_ns=trials[0].began_ns,
        ranks=tuple(trials),
    )


def _slowest(*waits_ns: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(max, zip(*waits_ns, strict=False)))


def _largest(efforts: Sequence[Effort]) -> Effort:
    """That of the rank with the most CPU time; its processes count as busy only if those of every rank are."""
    most = max(efforts, key=lambda effort: effort.cpu_ns)
    return replace(most, busiest=min(effort.busiest for effort in efforts))


def _steps(loops: Sequence[StepRecord]) -> StepRecord:
    """At the end of each step the ranks wait for the slowest, so each of them loses what that one waited."""
    parts_ns = _slowest(*(loop.waits_ns for loop in loops))
    computed_ns = max(loop.total_ns - loop.wait_ns for loop in loops)
    total_ns = sum(parts_ns) + computed_ns
    ranks = tuple(replace(loop, total_ns=total_ns) for loop in loops)
    return StepRecord(sum(parts_ns), total_ns, parts_ns, ranks)
