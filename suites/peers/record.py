"""The raw measurements: one row for each loader and regime."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """One loader in one regime. ``problem`` says why there are no figures; ``unable``: it is not made for this.

    ``pss_nbytes`` of the process tree after each trial; ``base_nbytes`` the same with data and imports alone, before
    the first batch.
    """

    name: str
    regime: str
    how: str = ""
    problem: str | None = None
    unable: bool = False
    batch_size: int = 0
    epoch_batches: int = 0
    trials: list[Trial] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    base_nbytes: int = 0
    pss_nbytes: list[int] = field(default_factory=list)
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
