"""The part of a run that several ranks of a job measure together: what each gets, and how far they are apart."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, update_wrapper
from statistics import median
from threading import RLock
from typing import Any, NoReturn, TypeVar

from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import SkewTest, Verdict, beside_others, quantile_interval
from pytest_loaderperf.measurement import Disturbance, Key, Placed, Rounds
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.disturbance import OTHERS
from pytest_loaderperf.measurement.factory import is_factory
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.ranks.bench import Bench
from pytest_loaderperf.ranks.job_side import JobSide
from pytest_loaderperf.ranks.together import Together
from pytest_loaderperf.ranks.world import world_of
from pytest_loaderperf.runs.estimates import estimate_of
from pytest_loaderperf.runs.metric import Definition, Estimate, Measured, Metric
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.sides import BASE, LOADER
from pytest_loaderperf.units import ONE, Quantity

T = TypeVar("T")
MEASURING = RLock()  # held by the thread that measures: others would slow it, and use the same iterators


def rank_times(record: Record) -> list[float]:
    """Nanoseconds that each rank took in a trial, without waiting for a CPU, where the system says how long it did.

    What other programs take, or other ranks on the same cores, does not make a rank slow.
    """
    assert isinstance(record, SteadyRecord)
    return [one.wall_ns * (1 - (one.effort.delayed if one.effort else 0.0)) for one in record.ranks]


SKEW = Definition("skew", ONE, Placed(), lambda record: max(beside_others(rank_times(record))))


def skew_test(records: Sequence[Record]) -> SkewTest:
    """The skew test of these trials, without a claim."""
    test = SkewTest(1.0, at_least=False)
    for record in records:
        test.add_times(rank_times(record))
    return test


def skew_of(records: Sequence[Record]) -> Estimate:
    """The skew over trials of a job; ``samples`` are empty, as it is the largest of several medians."""
    ruling = skew_test(records).ruling(0.5, 0)
    return Estimate(ruling.estimate, ruling.low, ruling.high, ruling.n)


def skews_of(records: Sequence[Record]) -> list[Estimate]:
    """The time of each rank over the median of the others' times, over trials of a job; the largest is the skew."""
    by_rank = zip(*(beside_others(rank_times(record)) for record in records), strict=True)
    return [Estimate(median(ratios), *quantile_interval(ratios, 0.5), len(ratios)) for ratios in by_rank]


class OfRank(Measured):
    """What one rank of the job gets: its metrics have values, but bear no claims."""

    def __init__(self, run: Ranked, rank: int, host: str) -> None:
        super().__init__(_RankValues(run, rank), LOADER, f"ranks[{rank}].")
        self.rank, self.host = rank, host

    def __repr__(self) -> str:
        return f"<rank {self.rank} on {self.host}>"


class _RankValues:
    def __init__(self, run: Ranked, rank: int) -> None:
        self._run, self._rank = run, rank

    def estimate(self, key: Key, definition: Definition) -> Estimate:
        """The metric over what this rank has measured."""
        self._run.estimate(key, definition)  # measures, if nothing was measured yet
        return self._run.shared(
            f"the {definition.name} of rank {self._rank}",
            lambda: self._run.rank_estimate(self._rank, key, definition),
            passing=True,
        )

    def claim(self, left: Metric, op: str, right: Metric | Quantity) -> NoReturn:
        """Raise ClaimError."""
        raise ClaimError(
            f"{left.text} is for looking: expected a claim on the whole job. Write assert run.skew <= 1.1 for one slow "
            "rank, or run.throughput for what all get."
        )


class Ranked:
    """The part of a Run that knows the other ranks, if there are any."""

    name: str
    options: Options
    _conditions: Conditions
    _together: Together | None = None
    _hosts: Sequence[str] = ()
    rank_notes: Sequence[str] = ()

    def estimate(self, key: Key, definition: Definition) -> Estimate:
        """A metric over all records so far."""
        raise NotImplementedError

    def claim(self, left: Metric, op: str, right: Metric | Quantity) -> Verdict:
        """Measure until the claim is decided."""
        raise NotImplementedError

    def records(self, key: Key) -> list[Any]:
        """All records so far."""
        raise NotImplementedError

    @property
    def rounds(self) -> Rounds:
        """The measurement."""
        raise NotImplementedError

    def shared(self, doing: str, find: Callable[[], T], *, passing: bool = False) -> T:
        """What ``find`` returns, at rank 0, for every rank. ``passing``: not every rank need ask."""
        with nullcontext() if passing else MEASURING:
            return find() if self._together is None else self._together.shared(doing, find, passing=passing)

    @property
    def ranks(self) -> list[OfRank]:
        """What each rank of the job gets, by rank; empty for a process that is not one of several."""
        return [OfRank(self, rank, host) for rank, host in enumerate(self._hosts)]

    @property
    def skew(self) -> Metric:
        """How much longer than the others' median the slowest rank lastingly takes: 1.2 for 20 %.

        Raises ClaimError without several ranks.
        """
        if self._together is None:
            raise ClaimError(
                "run.skew needs several ranks. Start them together: torchrun --nproc-per-node=4 -m pytest --loaderperf"
            )
        return Metric(self, LOADER, "", SKEW)

    def rank_estimate(self, rank: int, key: Key, definition: Definition) -> Estimate:
        """A metric over what one rank has measured so far."""
        return estimate_of(definition, [record.ranks[rank] for record in self.records(key)])

    def _build_at_all_ranks(self, build: Callable[[], None], sides: dict[str, Any]) -> None:
        """Build ``sides`` here, as every rank does; one that fails says so when it is asked."""
        link = self.options.link
        if link is None:
            with MEASURING:
                build()
            return
        broken: Exception | None = None
        try:
            build()
        except Exception as error:  # noqa: BLE001 raised when rank 0 asks
            broken = error
        except BaseException as error:
            link.fail(error, "building its loaders")
            raise
        bench = Bench(sides, {BASE: self.options.make_base}, self._conditions, broken, link.world.rank)
        self._together = Together(link, bench)

    def _at_all_ranks(self, sides: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        """The sides as rank 0 measures them, and the hosts of all ranks; without ranks, ``sides`` themselves."""
        together = self._together
        if together is None:
            return sides, []
        facts = together.ask("facts", LOADER)
        self.rank_notes = notes_on(facts, together.hosts)
        return {name: JobSide(together, side) for name, side in sides.items()}, together.hosts

    def _made_at_all_ranks(self, name: str, make: Callable[[], Any]) -> Any:
        return make() if self._together is None else JobSide.made(self._together, name)

    def disturbance(self) -> Disturbance:
        """How much of the measuring was disturbed; in a job only by the host, as other ranks are other processes."""
        found = self.rounds.disturbance()
        if not self._hosts or found.share is None:
            return found
        causes = {cause: share for cause, share in found.causes.items() if cause != OTHERS}
        return replace(found, share=sum(causes.values()), causes=causes)

    def slowest(self, records: Sequence[Record]) -> str:
        """The rank with the largest median, in words."""
        medians = skew_test(records).medians
        rank = medians.index(max(medians))
        return f"rank {rank} on {self._hosts[rank]}: {medians[rank]:.3g} x the median of the others"


def for_rank(source: Any) -> Any:
    """A factory that takes ``rank`` and ``world_size`` gets those of this process; other sources are unchanged."""
    if not is_factory(source):
        return source
    try:
        taken = inspect.signature(source).parameters
    except (TypeError, ValueError):
        return source
    world = world_of(os.environ)
    rank, size = (world.rank, world.size) if world else (0, 1)
    given = {name: value for name, value in (("rank", rank), ("world_size", size)) if name in taken}
    return update_wrapper(partial(source, **given), source) if given else source


def notes_on(facts: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> list[str]:
    """What the ranks of a job must know of each other: cores that they share, and data that all of them deliver."""
    notes = []
    for host, ranks in Counter(hosts).items():
        cpus = set().union(*(fact["cpus"] for fact, its in zip(facts, hosts, strict=True) if its == host))
        if cpus and len(cpus) < ranks:
            notes.append(
                f"{ranks} ranks share {len(cpus)} core{'s' * (len(cpus) > 1)} of {host}: throughputs and latencies "
                "include their waiting for a core, skew does not"
            )
    wholes = {fact["whole"] for fact in facts}
    if len(wholes) == 1 and (whole := wholes.pop()) is not None:
        notes.append(
            f"each of {len(facts)} ranks delivers all {whole[0]:,} samples: expected a part of them each. Give a "
            "DataLoader a DistributedSampler, and a ReferenceLoader rank and world_size"
        )
    begins = {fact["begin"] for fact in facts}
    if len(facts) > 1 and len(begins) == 1 and begins != {None}:
        notes.append(
            f"each of {len(facts)} ranks begins with the same batch: expected other samples at each. Split the stream "
            "by rank and world_size, as islice(samples, rank, None, world_size) does"
        )
    return notes
