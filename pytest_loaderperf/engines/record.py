"""The raw measurements: one row for each loader."""

from __future__ import annotations

from dataclasses import dataclass, field

# A trial is so long that a wake-up of 1 ms is 0.5 % of it, and so short that a turn of ten loaders takes seconds.
TRIAL_NS = 200_000_000
LONGEST_TRIAL_NS = 600_000_000


@dataclass(frozen=True, slots=True)
class Trial:
    """``batches`` took ``ns``; the process tree used ``cpu_s`` for the ``taken`` ones, untimed ones included.

    ``turn``: trials of two rows with the same turn were taken next to each other.
    """

    turn: int
    ns: int
    batches: int
    taken: int
    cpu_s: float


@dataclass(slots=True)
class Row:
    """One loader on one dataset. ``problem`` says why there are no figures; ``unable``: it is not made for this.

    ``pss_nbytes`` of the process tree after each trial; ``base_nbytes`` the same with data and imports alone, before
    the first batch.
    """

    name: str
    regime: str = ""  # of several datasets that a loader is measured on, which one
    how: str = ""
    problem: str | None = None
    unable: bool = False
    batch_size: int = 0
    epoch_batches: int = 0
    trials: list[Trial] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    base_nbytes: int = 0
    pss_nbytes: list[int] = field(default_factory=list)
    spent_s: float = 0.0  # on all of it, untimed batches included
    idle_cpu_s: float = 0.0
    idle_s: float = 0.0


def calibrated(epoch_batches: int, batch_ns: float) -> int:
    """Batches of a trial: whole epochs for TRIAL_NS, so that each trial holds its share of epoch ends.

    A loader whose epoch takes longer than LONGEST_TRIAL_NS gets as many batches as fit into that.
    """
    epoch_ns = max(1.0, epoch_batches * batch_ns)
    if epoch_ns > LONGEST_TRIAL_NS:
        return max(1, int(LONGEST_TRIAL_NS / batch_ns))
    return epoch_batches * max(1, round(TRIAL_NS / epoch_ns))


def throughput(row: Row, trial: Trial) -> float:
    """Samples per second; a short last batch counts as a full one, for all loaders."""
    return trial.batches * row.batch_size * 1e9 / trial.ns


def cpu_s_per_1k(row: Row) -> float:
    """CPU seconds of the process tree for 1,000 samples, untimed ones included."""
    return 1e3 * sum(trial.cpu_s for trial in row.trials) / sum(t.taken * row.batch_size for t in row.trials)


def ratios(row: Row, other: Row) -> list[float]:
    """The throughput of ``row`` divided by that of ``other``, in each turn with both."""
    others = {trial.turn: throughput(other, trial) for trial in other.trials}
    return [throughput(row, trial) / others[trial.turn] for trial in row.trials if trial.turn in others]
