"""The side of a job, on real loaders: every rank measures its own, and rank 0 has one record. Ranks are threads."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import Epoch, Resources, Side, Start, Steady, Step, Watchdog
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import EpochRecord
from pytest_loaderperf.ranks.bench import Bench, facts
from pytest_loaderperf.ranks.job_side import JobSide
from pytest_loaderperf.ranks.together import Together


class Batches:
    """A loader of ``count`` batches of 4 samples; its dataset is itself."""

    prefetch_depth = 0  # it is not asked for threads

    def __init__(self, count, fails=False):
        self.count, self.fails = count, fails

    def __iter__(self):
        for number in range(self.count):
            if self.fails and number == 9:
                raise OSError("disk gone")
            yield torch.full((4, 2), float(number))

    def __len__(self):
        return self.count


class Loaders:
    def __init__(self, *lengths, **how):
        self.lengths, self.how = lengths, how

    def make(self, rank):
        return Batches(self.lengths[rank], **(self.how if rank == 1 else {}))


def measured(job, loaders, lead):
    """What ``lead(side)`` gives at rank 0, and what the others get of it."""

    def work(link):
        rank = link.world.rank
        watchdog = Watchdog(30, print)
        side = Side("loader", lambda: loaders.make(rank), watchdog, count=None, deliver=None)
        try:
            side.start()
            ranks = Together(link, Bench({"loader": side}, {}, Conditions.now()))
            return ranks.shared("it", lambda: lead(JobSide(ranks, side)))
        finally:
            watchdog.close()

    return job.all(work)


@pytest.mark.parametrize(
    "kind, samples",
    [(Steady(), 3 * 8 * 4), (Epoch(), 3 * 40 * 4), (Start(), None), (Resources(), 3 * 40 * 4)],
    ids=lambda value: type(value).__name__,
)
def test_a_record_of_each_kind_is_of_all_ranks(job_of, kind, samples):
    given = measured(job_of(3), Loaders(40, 40, 40), lambda side: side.observe(kind, 8, Conditions.now()))
    assert given[0] == given[1] == given[2]
    assert len(given[0].ranks) == 3
    assert samples is None or given[0].samples == samples


def test_a_training_loop_waits_for_the_slowest_rank(job_of):
    record, _ = measured(job_of(2), Loaders(200, 200), lambda side: side.observe(Step(0.002), 8, Conditions.now()))
    assert len(record.ranks) == 2
    assert record.wait_ns >= max(rank.wait_ns for rank in record.ranks)
    assert {rank.total_ns for rank in record.ranks} == {record.total_ns}


def test_the_shortest_epoch_of_a_rank_is_that_of_the_job(job_of):
    def lead(side):
        side.observe(Epoch(), 8, Conditions.now())
        trial = side.observe(Steady(), 8, Conditions.now())
        return side.epoch_batches, [len(rank.latencies_ns) for rank in trial.ranks], side.epochs, len(side.starts)

    (batches, timed, epochs, starts), _ = measured(job_of(2), Loaders(40, 12), lead)
    assert (batches, timed) == (12, [8, 8])
    assert isinstance(epochs[0], EpochRecord)
    assert epochs[0].samples == (40 + 12) * 4
    assert starts >= 1


def test_an_error_of_one_ranks_loader_is_raised_with_its_place(job_of):
    given = measured(job_of(2), Loaders(40, 40, fails=True), lambda side: side.observe(Steady(), 20, Conditions.now()))
    assert all("disk gone" in str(error) and "(at rank 1 on host b)" in str(error) for error in given)


def test_a_job_without_a_trial_long_enough_for_its_exchanges_says_how_long_it_must_be(job_of):
    seconds, _ = measured(job_of(2), Loaders(40, 40), lambda side: side.least_trial_seconds)
    assert seconds > 0


def test_sides_are_rebuilt_on_every_rank(job_of):
    def lead(side):
        before = side.loader
        side.build()
        return side.loader is not before, side.taken

    assert measured(job_of(2), Loaders(40, 40), lead) == [(True, 0)] * 2


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def side_of(dataset, batches):
    class Loader:
        def __len__(self):
            return batches

    Loader.dataset = dataset
    return SimpleNamespace(loader=Loader(), batch_samples=4)


def test_a_dataset_that_is_delivered_whole_is_known_by_its_first_and_last_sample():
    rows = torch.arange(40.0).reshape(20, 2)
    samples, digest = facts(side_of(Rows(rows), 5))["whole"]
    assert samples == 20
    assert facts(side_of(Rows(rows.clone()), 5))["whole"] == (20, digest)
    assert facts(side_of(Rows(rows + 1), 5))["whole"] != (20, digest)
    assert facts(side_of([(row, "label") for row in rows], 5))["whole"][0] == 20


def test_arrays_are_known_by_their_rows():
    rows = torch.arange(40.0).reshape(20, 2)
    samples, digest = facts(side_of((rows, rows[:, 0]), 5))["whole"]
    assert samples == 20
    assert facts(side_of((rows.clone(), rows[:, 0]), 5))["whole"] == (20, digest)
    assert facts(side_of((rows, rows[:, 1]), 5))["whole"] != (20, digest)
    assert facts(side_of(TensorDataset(rows, rows[:, 0]), 5))["whole"][0] == 20


@pytest.mark.parametrize(
    "rows", [[1, 2, 3, 4], ["a", "b", "c", "d"], [[1, "a"], [2, "b"]] * 2, [(None, 1), (None, 2)] * 2]
)
def test_samples_that_are_no_tensors_are_known_as_well(rows):
    dataset = [*rows, "last"]
    samples, digest = facts(side_of(dataset, 2))["whole"]
    assert facts(side_of(list(dataset), 2))["whole"] == (samples, digest)
    assert facts(side_of(["first", *rows[1:], "last"], 2))["whole"] != (samples, digest)


@pytest.mark.parametrize("rows", [torch.zeros(8, 2), [0] * 8, [lambda: 1, *range(7)]])
def test_samples_that_are_alike_or_cannot_be_told_apart_tell_nothing(rows):
    assert facts(side_of(Rows(rows), 2))["whole"] is None


@pytest.mark.parametrize("dataset, batches", [(Rows(torch.zeros(40, 2)), 5), (object(), 5), (Rows([0] * 4), 1)])
def test_a_part_of_a_dataset_is_not_the_whole(dataset, batches):
    assert facts(side_of(dataset, batches))["whole"] is None


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def begin_of(source):
    with closing(Watchdog(60, pytest.fail)) as watchdog:
        side = Side("loader", source, watchdog, count=None, deliver=None)
        found = facts(side)["begin"]
        assert found is None or side.taken == 1
        side.close()
    return found


def test_a_stream_is_known_by_its_first_batch_whose_samples_differ():
    rows = torch.arange(40.0).reshape(20, 2)
    digest = begin_of(DataLoader(Stream(rows), 4))
    assert digest is not None
    assert begin_of(DataLoader(Stream(rows[:8].clone()), 4)) == digest
    assert begin_of(lambda: (row for row in rows.split(4))) == digest
    assert begin_of(DataLoader(Stream(rows[1:]), 4)) not in (digest, None)
    assert begin_of(DataLoader(Stream(torch.ones(20, 2)), 4)) is None  # any share would begin so
    assert begin_of(DataLoader(rows, 4)) is None  # not a stream
    assert begin_of(DataLoader(Stream([]), 4)) is None  # the first trial says that it is empty


def test_a_side_that_could_not_be_made_says_why_when_rank_0_asks(job_of):
    def work(link):
        broken = LoaderError("the factory raised") if link.world.rank == 1 else None
        ranks = Together(link, Bench({}, {}, Conditions.now(), broken))
        return ranks.shared("it", lambda: ranks.ask("ping"))

    given = job_of(2).all(work)
    assert [str(error) for error in given] == ["the factory raised\n(at rank 1 on host b)", "the factory raised"]
