"""The notes under the table: how a loader was measured, and what its figures do not show."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.measurement import Epoch, Key, Steady
from pytest_loaderperf.measurement.record import EpochRecord, SteadyRecord
from pytest_loaderperf.report.figures import figure, time_text
from pytest_loaderperf.runs.metric import NS
from pytest_loaderperf.runs.sides import ROOFLINE
from pytest_loaderperf.units import SAMPLES_PER_SECOND

if TYPE_CHECKING:
    from pytest_loaderperf.runs.run import Run

_NOTABLE = 0.10  # of the time that batches explain: smaller differences are not worth a note
_NOTABLE_NS = 10_000_000  # of an epoch: a training step takes as long, so less tells nobody anything
_CAUSE = 0.25  # of the time that batches do not explain: a smaller part is not named


def notes_of(run: Run) -> list[str]:
    """The run's notes, from what has been measured so far; measures nothing more."""
    sides = {name: side for name, side in run.rounds.sides.items() if name != ROOFLINE}
    notes = [
        f"{name} was given as a loader, not a factory: it was not rebuilt"
        for name, side in sides.items()
        if not side.rebuildable
    ]
    notes += [f"{name} keeps working when no batch is requested" for name in sorted(run.rounds.never_idle)]
    notes += [
        f"{why.rstrip('.')}; so workers' work is not compared in turns" for why in run.rounds.replays.left_out.values()
    ]
    notes += run.rank_notes
    if ROOFLINE not in run.rounds.sides:
        notes.append(run.no_roofline)
    for name, side in sides.items():
        notes += filter(None, (_helpers_note(name, side), lazy_note(name, side, run)))
        if not run.ranks:  # batches of a job wait for its slowest rank each, epochs only at their end
            notes += filter(None, (_epoch_note(name, side, run),))
    return notes


def _helpers_note(name: str, side: Any) -> str:
    """Processes and threads that the loader has started but does not declare as workers."""
    processes, threads = side.own_helpers
    workers = getattr(side.loader, "num_workers", None)
    if workers or not (processes or threads):
        return ""
    counts = [(processes, "process", "processes"), (threads, "thread", "threads")]
    shown = " and ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n)
    return f"{name}: {shown} of its own" + (", though it says num_workers=0" if workers == 0 else "")


def lazy_note(name: str, side: Any, run: Run) -> str:
    """That reading a batch may take time that is not measured."""
    if run.reading.touch is not None or not side.opaque:
        return ""
    return (
        f"{name}: batches of type {side.opaque} hold no arrays: if they are lazy, what reading them costs is not "
        "measured; give touch=, a function that reads a batch"
    )


def _epoch_note(name: str, side: Any, run: Run) -> str:
    """That whole epochs take longer than their batches in steady state, if they do."""
    asked = [seen.records.get(Key(name, Epoch())) for seen in run.rounds.done]
    trials = [seen.records.get(Key(name, Steady())) for seen in run.rounds.done]
    paces_ns = [sum(trial.latencies_ns) / trial.samples for trial in trials if isinstance(trial, SteadyRecord)]
    whole = [epoch for epoch in (*asked, *side.epochs) if isinstance(epoch, EpochRecord) and epoch.whole]
    # The very first epoch has cold caches, and is often the only one that a trial has run to its end.
    start_ns = round(statistics.median(start.first_batch_ns for start in side.starts))
    epochs = whole or [replace(epoch, first_batch_ns=start_ns) for epoch in side.epochs]
    if not paces_ns or not epochs:
        return ""
    told = epoch_story(epochs, statistics.median(paces_ns), starts_workers=_starts_workers(side))
    return f"{name}: {told}" if told else ""


def _starts_workers(side: Any) -> bool:
    """Whether the loader has started processes, and says that its workers end with each epoch; threads may stay."""
    processes, _ = side.own_helpers
    return processes > 0 and getattr(side.loader, "persistent_workers", None) is False


def epoch_story(epochs: Sequence[EpochRecord], sample_ns: float, *, starts_workers: bool) -> str:
    """How long an epoch takes, how much of it batches at the trials' ``sample_ns`` explain, and the rest; "" if equal.

    In epochs that were read in pieces, faster batches say nothing: they may have been made in the pauses.
    """
    middle = statistics.median_low([epoch.epoch_ns / epoch.samples for epoch in epochs])
    epoch = next(epoch for epoch in epochs if epoch.epoch_ns / epoch.samples == middle)
    explained_ns = epoch.samples * sample_ns
    beyond_ns = epoch.epoch_ns - explained_ns
    if abs(beyond_ns) < max(_NOTABLE * explained_ns, _NOTABLE_NS):
        return ""
    head = f"an epoch takes {time_text(epoch.epoch_ns * NS)}"
    rate = figure(epoch.samples / (epoch.epoch_ns * NS), SAMPLES_PER_SECOND)
    if beyond_ns < 0:
        at_pace = f"{head}, where batches at the speed of the trials take {time_text(explained_ns * NS)}"
        return f"{at_pace}: batches do not take equally long ({rate} over epochs)" if epoch.whole else ""
    causes = ", ".join(_causes(epoch, explained_ns / epoch.batches, beyond_ns, starts_workers=starts_workers))
    return f"{head}, of which batches explain {time_text(explained_ns * NS)}: {causes} ({rate} over epochs)"


def _causes(epoch: EpochRecord, batch_ns: float, beyond_ns: float, *, starts_workers: bool) -> list[str]:
    """The causes of the time that batches do not explain, the largest first."""
    parts = {
        "the first batch takes {}": epoch.first_batch_ns - batch_ns,
        "leaving it takes {}": float(epoch.exit_ns),
        "one wait for a batch takes {}": epoch.longest_ns - batch_ns,
    }
    shown = {text: ns for text, ns in parts.items() if ns > _CAUSE * beyond_ns}
    ordered = sorted(shown, key=lambda text: -shown[text])
    texts = [text.format(time_text(shown[text] * NS)) for text in ordered]
    if beyond_ns - sum(shown.values()) > _CAUSE * beyond_ns:
        texts.append("batches do not take equally long")
    if starts_workers and any("first" in text or "leaving" in text for text in ordered):
        texts.insert(0, "workers restart in each epoch")
    return texts
