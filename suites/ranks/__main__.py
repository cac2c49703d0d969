# ruff: noqa: T201 a command prints
"""``python -m suites.ranks``: how fast a killed rank is named, and what gathering and a barrier cost.

python -m suites.ranks [--kills N] [--sizes N ...] [--exchanges N]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import time

from pytest_loaderperf.ranks.link import Link
from suites.ranks.forked import Said, ranks, said

BOUND_SECONDS = 15.0
_BATCH_SECONDS = 0.002  # of a rank between two exchanges, at most
_BEFORE_SECONDS = 0.5  # at most, from the start of the work to a kill
_WARM = 20  # exchanges that are not timed
_ANSWER = list(range(64))  # as many numbers as a trial has latencies
_LARGEST_SIZE = 8


def main() -> int:
    """Status 0 if every killed rank was named, by all others, within the bound."""
    parser = argparse.ArgumentParser(prog="python -m suites.ranks", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="default %(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 4, 8], metavar="N", help="of jobs, default 2 4 8")
    parser.add_argument("--exchanges", type=int, default=300, metavar="N", help="that are timed, default %(default)s")
    options = parser.parse_args()
    print("ranks  barrier p50  barrier p99  gather p50  gather p99")
    for size in options.sizes:
        print(f"{size:5}  " + "  ".join(f"{1e6 * cost:8.0f} us" for cost in costs(size, options.exchanges)), flush=True)
    return 0 if kills(options.kills) else 1


def costs(size: int, exchanges: int) -> list[float]:
    """Seconds at rank 0 of a barrier and of gathering: p50 and p99 of each."""

    def work(link: Link) -> list[float]:
        found = []
        for do in (lambda: link.barrier("starting"), lambda: link.gather(_ANSWER, "observe")):
            times = []
            for _ in range(_WARM + exchanges):
                link.barrier("together")
                began = time.perf_counter()
                do()
                times.append(time.perf_counter() - began)
            centiles = statistics.quantiles(times[_WARM:], n=100)
            found += [centiles[49], centiles[98]]
        return found

    with ranks(size, work) as started:
        for rank in reversed(started):
            last = said(rank, 300.0)
    assert last is not None
    assert isinstance(last.value, list), last.error
    return last.value


def kills(count: int) -> bool:
    """Kill a rank of ``count`` jobs at a random moment; print how fast the others named it. Whether all did."""
    choose = random.Random(count)  # noqa: S311 whom to kill, and when
    slowest, named = [], 0
    for _ in range(count):
        size = choose.choice([2, 4, _LARGEST_SIZE])
        victim = choose.randrange(size)
        seconds = _kill(size, victim, choose.uniform(0.0, _BEFORE_SECONDS))
        if seconds is None or seconds > BOUND_SECONDS:
            print(f"not named: rank {victim} of {size}, {seconds}")
        else:
            named += 1
            slowest.append(seconds)
    median, most = statistics.median(slowest or [0.0]), max(slowest, default=0.0)
    by_last = f"by the last after {median:.3f} s (median), {most:.3f} s (most)"
    print(f"killed ranks named by all others: {named} of {count}; {by_last}")
    return named == count


def _kill(size: int, victim: int, after_s: float) -> float | None:
    """Seconds until the last of the others named ``victim``; None if one did not."""

    def work(link: Link) -> None:
        while True:
            link.barrier("starting")
            time.sleep(random.uniform(0.0, _BATCH_SECONDS))  # noqa: S311 as ranks differ
            link.gather(_ANSWER, "observe")
            if link.world.rank == 0:
                link.tell(None)
            else:
                link.told("the next command")

    with ranks(size, work) as started:
        time.sleep(after_s)
        killed_s = time.monotonic()
        os.kill(started[victim].pid, signal.SIGKILL)
        found = [said(rank, 2 * BOUND_SECONDS) for number, rank in enumerate(started) if number != victim]
    names = f"rank {victim} on host here (process {started[victim].pid}) ended"
    if not all(isinstance(one, Said) and names in one.error for one in found):
        print(*(one and one.error for one in found), sep="\n")
        return None
    return max(one.at_s for one in found if one) - killed_s


if __name__ == "__main__":
    raise SystemExit(main())
