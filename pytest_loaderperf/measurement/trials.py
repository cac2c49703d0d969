"""How many batches a trial times: a pure function of each side's pace, chosen for the fastest verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_TRIAL_BATCHES = 4  # fewer do not average over a loader's own rhythm
ENDLESS = 1 << 20  # batches that an epoch of unknown length allows

# In slices every side runs at the same speed, so short trials lose nothing, and more of them settle a claim sooner.
_SLICED_SECONDS, _LONGEST_SLICED_SECONDS = 0.002, 0.006
# In one piece, the time between trials is lost: three times this time is near the optimum, on a machine whose speed
# changes from trial to trial. Two workers of 3 ms a batch, under a load: 8 ms between trials.
_PIECE_SECONDS = 0.02
_OVERHEADS = 3.0
_AMORTISED_SECONDS = 0.1  # at most: the time between trials is also long if the machine is busy
_FIRST_BATCHES = 12  # of a side that may have batches ready, before a trial has shown its pace
_LONGEST_PIECE_SECONDS = 1.0  # for bursts and rhythms; a dozen pairs must fit into a claim's budget
_MOST_IN_STEP = 8  # batches; with more workers, it is not known that each makes as many
_REFILL_SECONDS = 0.008  # a turn, plus about 3 ms until its end is noticed
REFILLS, LEAST_REFILLS = 5, 4  # turns of which the median is taken; and that an epoch must hold, with that before them
_SHORTEST_REFILL_SECONDS = 0.002  # its end is known to a millisecond
_LONGEST_REFILL_SECONDS = 0.1  # longer: a dozen rounds would take a claim's budget
_FAR_SLOWER = 2.0  # times as long a batch
_FEWEST_BLOCKS = 10  # that show how much they vary
_STEP = 1.1  # from one tested length to the next: a rhythm needs whole periods
_WORTH = 0.4  # of the time, which a longer trial must reach: in plain noise it saves a quarter, and chance as much


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a side when the length of its next trial is chosen.

    ``batch_seconds``: of a typical batch. ``ready``: batches that may be ready before they are requested.
    ``affordable``: timed batches that one epoch allows. ``overhead_seconds``: between its trials, untimed.
    ``latencies_ns``: of its latest batches, in sequence. ``least_seconds``: of a trial in one piece.
    """

    batch_seconds: float
    ready: int = 0
    affordable: int = ENDLESS
    overhead_seconds: float = 0.0
    latencies_ns: Sequence[int] = ()
    least_seconds: float = 0.0


def sliced_batches(paces: Mapping[str, Pace], longer: int = 1, halvings: int = 0) -> dict[str, int]:
    """Batches of each side in a round of slices: the same number, unless one is far slower than the others."""
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
    """Batches of each side in a trial in one piece: the same number, so that sides with a shared cache stay in step.

    If one is far slower, the same time, so that there is time for pairs. A trial has at least what a side may have
    ready, because that is made in bursts; half of it if that would take too long.
    """
    affordable = _affordable(paces, halvings)
    overhead_s = max(pace.overhead_seconds for pace in paces.values())
    least_s = min(_LONGEST_PIECE_SECONDS, max(pace.least_seconds for pace in paces.values()))
    seconds = max(least_s, min(max(_PIECE_SECONDS, _OVERHEADS * overhead_s), _AMORTISED_SECONDS))
    wanted = {name: _whole(_piece(pace, seconds), pace.ready) for name, pace in paces.items()}
    batch_seconds = [pace.batch_seconds for pace in paces.values()]
    if max(batch_seconds) <= _FAR_SLOWER * min(batch_seconds):
        wanted = dict.fromkeys(paces, max(wanted.values()))
    return {name: min(batches, affordable) for name, batches in wanted.items()}


def refill_batches(paces: Mapping[str, Pace]) -> tuple[int, int]:
    """Batches of every side in a turn of refills, and how many turns; fewer if epochs are short.

    The same number for each, because every turn ends with a wait, whose CPU time must count equally on both sides. No
    turns if batches take too long, or epochs are too short.
    """
    wanted = [
        _whole(max(1, round(_REFILL_SECONDS / pace.batch_seconds)), min(pace.ready, _MOST_IN_STEP))
        for pace in paces.values()
    ]
    batch_seconds = [pace.batch_seconds for pace in paces.values()]
    shortest_s, longest_s = min(batch_seconds), max(batch_seconds)
    affordable = min(pace.affordable for pace in paces.values())
    batches = min(max(wanted) if longest_s <= _FAR_SLOWER * shortest_s else min(wanted), affordable // LEAST_REFILLS)
    if batches * longest_s > _LONGEST_REFILL_SECONDS or batches * shortest_s < _SHORTEST_REFILL_SECONDS:
        return batches, 0
    return batches, min(REFILLS, affordable // batches - 1)


def _piece(pace: Pace, seconds: float) -> int:
    most = _LONGEST_PIECE_SECONDS / pace.batch_seconds
    burst = pace.ready if pace.ready <= most else pace.ready // 2
    least = max(1, min(MIN_TRIAL_BATCHES, math.ceil(most)), burst)
    if pace.ready > 1 and not pace.latencies_ns:  # the batches so far may have been ready, and therefore fast
        return max(least, min(_FIRST_BATCHES, round(seconds / pace.batch_seconds)))
    return _even(pace, max(least, round(seconds / pace.batch_seconds)), _LONGEST_PIECE_SECONDS)


def _whole(batches: int, ready: int) -> int:
    """``batches`` or more, so that each worker makes the same number: one may be slower."""
    unit = max(1, ready if batches >= ready else ready // 2)
    return -(-batches // unit) * unit


def _affordable(paces: Mapping[str, Pace], halvings: int) -> int:
    shortest = min(pace.affordable for pace in paces.values())
    return max(min(shortest, MIN_TRIAL_BATCHES), shortest >> halvings)


def _even(pace: Pace, batches: int, longest_seconds: float) -> int:
    """More than ``batches``, if longer trials vary so much less that a verdict comes sooner.

    The time to a verdict is proportional to the variance of a pair, which is that of two blocks of batches in a row
    (the Allan variance), times the time of a pair. If batches come in bursts or a rhythm, a block of a few periods
    varies far less than a shorter one. If the machine drifts, longer ones do not.
    """
    latencies = np.asarray(pace.latencies_ns, dtype=float)
    best, least = batches, math.inf
    candidate = batches
    while candidate * pace.batch_seconds <= longest_seconds and len(latencies) >= _FEWEST_BLOCKS * candidate:
        blocks = latencies[: len(latencies) // candidate * candidate].reshape(-1, candidate).mean(axis=1)
        cost = float(np.mean(np.diff(blocks) ** 2)) * (pace.overhead_seconds + candidate * pace.batch_seconds)
        if cost < _WORTH * least:
            best, least = candidate, cost
        candidate = math.ceil(candidate * _STEP)
    return best
