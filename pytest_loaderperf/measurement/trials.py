"""How many batches a trial times: a pure function of each side's pace, so that the verdict is reached soonest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MIN_TRIAL_BATCHES = 4  # fewer do not average over a loader's own rhythm
ENDLESS = 1 << 20  # batches that an epoch of unknown length allows

# In slices every side meets the same machine, so that short trials lose nothing.
_SLICED_SECONDS, _LONGEST_SLICED_SECONDS = 0.002, 0.012
# In one piece a trial pays for what lies between trials: three times as long as that is near the optimum, for a machine
# whose speed changes from trial to trial. Two workers of 3 ms a batch, beside a load: 8 ms between trials.
_PIECE_SECONDS = 0.02
_OVERHEADS = 3.0
_AMORTISED_SECONDS = 0.1  # at the most: what lies between trials is long where the machine is busy, too
_LONGEST_PIECE_SECONDS = 1.0  # for bursts and rhythms; a dozen pairs must fit into a claim's budget
_FAR_SLOWER = 2.0  # times as long a batch
_PERIODS = 2  # of a rhythm, in a trial: the number of slow batches varies by one
_SLOW, _SLOW_SHARE = (
    10.0,
    0.15,
)  # times the median latency, and the share of the time, that make a batch part of a rhythm
_FEWEST_LATENCIES, _FEWEST_SLOW = 32, 4  # that show a rhythm
_REGULAR = 0.2  # of a gap between slow batches, that most others may differ by


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a side when the length of its next trial is chosen.

    ``batch_seconds``: of a typical batch. ``ready``: batches that may be ready before they are asked for.
    ``affordable``: timed batches that one epoch allows. ``overhead_seconds``: between its trials, untimed.
    ``rhythm``: batches from one slow batch to the next, 1 where there is no such thing.
    """

    batch_seconds: float
    ready: int = 0
    affordable: int = ENDLESS
    overhead_seconds: float = 0.0
    rhythm: int = 1


def sliced_batches(paces: Mapping[str, Pace], longer: int = 1, halvings: int = 0) -> dict[str, int]:
    """Batches of each side in a round of slices: as many of each, unless one is far slower than the others."""
    affordable = _affordable(paces, halvings)
    fastest_s = min(pace.batch_seconds for pace in paces.values())
    longest_s = longer * _LONGEST_SLICED_SECONDS
    wanted = max(longer * _SLICED_SECONDS, min(MIN_TRIAL_BATCHES * fastest_s, longest_s)) / fastest_s
    least = max(1, *(pace.ready for pace in paces.values()))
    return {
        name: min(max(least, round(min(wanted, longest_s / pace.batch_seconds))), affordable)
        for name, pace in paces.items()
    }


def piece_batches(paces: Mapping[str, Pace], halvings: int = 0) -> dict[str, int]:
    """Batches of each side in a trial of its own: as many of each, so that sides which share a cache go on in step.

    Where one is far slower, as long for each, so that it leaves time for pairs. A trial holds what a side may have
    ready, as that is made in bursts; half of it where it would take too long.
    """
    affordable = _affordable(paces, halvings)
    overhead_s = max(pace.overhead_seconds for pace in paces.values())
    seconds = min(max(_PIECE_SECONDS, _OVERHEADS * overhead_s), _AMORTISED_SECONDS)
    wanted = {name: _piece(pace, seconds) for name, pace in paces.items()}
    batch_seconds = [pace.batch_seconds for pace in paces.values()]
    if max(batch_seconds) <= _FAR_SLOWER * min(batch_seconds):
        wanted = dict.fromkeys(paces, max(wanted.values()))
    return {name: min(batches, affordable) for name, batches in wanted.items()}


def _piece(pace: Pace, seconds: float) -> int:
    most = _LONGEST_PIECE_SECONDS / pace.batch_seconds
    burst = pace.ready if pace.ready <= most else max(MIN_TRIAL_BATCHES, pace.ready // 2)
    least = max(1, min(MIN_TRIAL_BATCHES, math.ceil(most)), burst)
    rhythm = _PERIODS * pace.rhythm if pace.rhythm > 1 else 0
    return max(least, min(rhythm, round(most)), round(seconds / pace.batch_seconds))


def _affordable(paces: Mapping[str, Pace], halvings: int) -> int:
    shortest = min(pace.affordable for pace in paces.values())
    return max(min(shortest, MIN_TRIAL_BATCHES), shortest >> halvings)


def rhythm_of(latencies_ns: Sequence[int]) -> int:
    """Batches from one slow batch to the next, where slow ones take much of the time and come regularly; else 1.

    A busy machine makes slow batches, too, but at random.
    """
    if len(latencies_ns) < _FEWEST_LATENCIES:
        return 1
    limit_ns = _SLOW * max(1, statistics.median(latencies_ns))
    slow = [at for at, ns in enumerate(latencies_ns) if ns > limit_ns]
    if len(slow) < _FEWEST_SLOW or sum(latencies_ns[at] for at in slow) < _SLOW_SHARE * sum(latencies_ns):
        return 1
    gaps = [later - earlier for earlier, later in pairwise(slow)]
    gap = statistics.median(gaps)
    irregular = sum(abs(other - gap) > _REGULAR * gap for other in gaps)
    return 1 if 2 * irregular > len(gaps) else max(1, round(gap))
