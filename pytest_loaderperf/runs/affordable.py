"""Whether the budget is long enough for whole epochs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.measurement import Epoch, Exit, Key, Rounds, Steady
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.report.figures import time_text
from pytest_loaderperf.runs.sides import LOADER, epoch_batches


def check_affordable(rounds: Rounds, keys: Sequence[Key], most_seconds: float, asked: str) -> None:
    """Raise ClaimError if one round of ``keys`` takes whole epochs that would last longer than ``most_seconds``.

    ``asked`` names what needs them. Loaders with an unknown number of batches in an epoch are not checked here.
    """
    names = [key.side for key in dict.fromkeys(keys) if isinstance(key.kind, (Epoch, Exit))]
    took = {name: _epoch_seconds(rounds, name) for name in names}
    seconds = sum(each[0] for each in took.values())
    if seconds <= most_seconds:
        return
    epochs = ", ".join(f"{text} of {name}" for name, (_, text) in took.items())
    raise ClaimError(
        f"{asked} needs whole epochs, a round of which takes about {time_text(seconds)} ({epochs}). Expected at most "
        f"{time_text(most_seconds)}, the time to measure in; a verdict needs many rounds. Give a part of the "
        "dataset, such as torch.utils.data.Subset, or a larger budget (loaderperf_budget), or compare throughput and "
        "first_batch."
    )


def _epoch_seconds(rounds: Rounds, name: str) -> tuple[float, str]:
    """How long an epoch of the side may take, and how that was computed; 0 if its length is not known."""
    side: Any = rounds.sides[name]
    batches = side.epoch_batches or epoch_batches(side.loader) or epoch_batches(rounds.sides[LOADER].loader)
    pace_s = _batch_seconds(rounds, name) or _batch_seconds(rounds, LOADER)
    if batches is None or pace_s is None:
        return 0.0, ""
    return side.starts[-1].first_batch_ns * 1e-9 + batches * pace_s, f"{batches:,} batches of {time_text(pace_s)}"


def _batch_seconds(rounds: Rounds, name: str) -> float | None:
    trials = [seen.records.get(Key(name, Steady())) for seen in rounds.done]
    paces = [statistics.fmean(trial.latencies_ns) * 1e-9 for trial in trials if isinstance(trial, SteadyRecord)]
    return statistics.median(paces) if paces else None
