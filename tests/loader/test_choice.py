"""How ``auto`` decides: first with engines and a clock made here, then once in earnest."""

from __future__ import annotations

import gc
import multiprocessing
import time
import weakref
from functools import partial
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from pytest_loaderperf.loader import ReferenceLoader, choice, engines
from pytest_loaderperf.loader.choice import HERE, Choice, verdict
from pytest_loaderperf.loader.progress import Progress

AHEAD = 4  # batches that the other choices prepare
TRIAL = 25  # batches in TRIAL_S at 10 ms each
FIRST = 4 * (1 + choice.TRIAL_BATCHES)  # in the consumer's thread until that was timed for TRIAL_S


class Clock:
    """Stands in for the ``time`` that a Choice measures with: it goes on only where an engine says so."""

    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class FakeEngine:
    """Gives the indices as batches, each ``cost_s`` after it was asked for, or raises what ``raises`` says for it."""

    def __init__(self, clock, cost_s, raises=None):
        self.clock, self.cost_s, self.raises = clock, cost_s, dict(raises or {})
        self.given, self.parts, self.closed = [], 0, 0

    def epoch(self, make_feed, progress):
        self.parts += 1
        if "begin" in self.raises:
            raise self.raises["begin"]
        return FakeEpoch(self, iter(make_feed()), progress)

    def close(self):
        self.closed += 1


class FakeEpoch:
    def __init__(self, engine, indices, progress):
        self.engine, self.indices, self.progress = engine, indices, progress

    def __iter__(self):
        return self

    def __next__(self):
        engine = self.engine
        batch = next(self.indices, None)
        if batch is None:
            self.progress.done = True
            raise StopIteration
        engine.clock.now_s += engine.cost_s
        if batch in engine.raises:
            raise engine.raises[batch]
        self.progress.batches += 1
        engine.given.append(batch)
        return batch


class Trials:
    """A Choice between engines that take so long for a batch, and what became of them."""

    def __init__(self, monkeypatch, here_s, raises=None, waits_s=None, **others_s):
        self.clock = Clock()
        monkeypatch.setattr(choice, "time", self.clock)
        self.here = FakeEngine(self.clock, here_s, raises)
        self.made = {name: [] for name in others_s}
        self.limits_s = {name: [] for name in others_s}
        others = {name: (self.maker(name, cost_s), AHEAD) for name, cost_s in others_s.items()}
        self.choice = Choice(self.here, others, waits_s or {})

    def maker(self, name, cost_s):
        def make(limit_s):
            self.limits_s[name].append(limit_s)
            cost, raises = cost_s if isinstance(cost_s, tuple) else (cost_s, None)
            self.made[name].append(FakeEngine(self.clock, cost, raises))
            return self.made[name][-1]

        return make

    def epoch(self, batches):
        self.progress = Progress(0)
        return self.choice.epoch(lambda: range(batches), self.progress)


def decisions(caplog):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("auto:")]


FEW, TIMED = [0.0] * (choice.FEW_BATCHES - 1), [10e-3] * TRIAL


@pytest.mark.parametrize(
    "here_s, processes_s, attempts, decided",
    [
        ([], [], 0, (HERE, None)),
        (TIMED[:-1], [], 0, (HERE, None)),
        ([choice.TRIAL_S] * (choice.TRIAL_BATCHES - 1), [], 0, (HERE, None)),
        (FEW, [], 0, (HERE, None)),
        ([*FEW, 0.0], [], 0, (HERE, "a batch takes 0.00 ms, less than it costs to hand one over")),
        (TIMED, [], choice.ATTEMPTS, ("processes", None)),
        (TIMED, [1e-3] * (choice.TRIAL_BATCHES - 1), choice.ATTEMPTS, ("processes", None)),
        (TIMED, [], choice.ATTEMPTS + 1, (HERE, "too few batches an epoch to time another choice")),
    ],
    ids=["nothing", "too short", "too few", "too few cheap", "cheap", "here", "part of a trial", "often in vain"],
)
def test_what_was_waited_for_decides_what_is_timed_next(here_s, processes_s, attempts, decided):
    assert verdict({HERE: here_s, "processes": processes_s}, attempts) == decided


@pytest.mark.parametrize(
    "threads_s, processes_s, best", [(5e-3, 4e-3, "processes"), (9.4e-3, 9.6e-3, "threads"), (9.6e-3, 9.6e-3, HERE)]
)
def test_the_fastest_by_more_than_the_margin_wins_however_many_attempts_that_took(threads_s, processes_s, best):
    waits_s = {HERE: TIMED, "threads": [threads_s] * TRIAL, "processes": [processes_s] * TRIAL}
    assert verdict(waits_s, choice.ATTEMPTS + 1)[0] == best


@pytest.fixture(autouse=True)
def _log_is_caught(caplog):
    caplog.set_level("INFO", "pytest_loaderperf")


def test_what_is_cheap_stays_in_the_consumers_thread(monkeypatch, caplog):
    trials = Trials(monkeypatch, 0.1e-3, processes=0.0)
    assert list(trials.epoch(100)) == list(range(100))
    assert trials.choice.chosen == HERE
    reason = "the consumer's thread: a batch takes 0.10 ms, less than it costs to hand one over"
    assert trials.choice.reason == reason
    assert decisions(caplog) == [f"auto: {reason}"]
    assert trials.made == {"processes": []}


def test_before_the_decision_the_reason_says_that_there_is_none(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    assert trials.choice.engine is None
    assert trials.choice.reason == ("not decided yet: the first batches are fetched in the consumer's thread and timed")


@pytest.mark.parametrize("name", ["processes", "threads"])
def test_what_is_faster_by_more_than_the_margin_is_chosen(monkeypatch, caplog, name):
    trials = Trials(monkeypatch, 10e-3, **{name: 9.4e-3})
    assert list(trials.epoch(200)) == list(range(200))
    assert trials.choice.chosen == name
    assert trials.choice.engine is trials.made[name][-1]
    assert trials.here.closed == 1  # its buffers are of no more use
    reason = f"{name}: waited for a batch: 10.00 ms by the consumer's thread, 9.40 ms by {name}"
    assert trials.choice.reason == reason
    assert decisions(caplog) == [f"auto: {reason}"]


@pytest.mark.parametrize("cost_s", [9.6e-3, 30e-3])
def test_what_is_not_faster_by_more_than_the_margin_is_not(monkeypatch, caplog, cost_s):
    trials = Trials(monkeypatch, 10e-3, processes=cost_s)
    assert list(trials.epoch(200)) == list(range(200))
    assert trials.choice.engine is trials.here
    waits = f"10.00 ms by the consumer's thread, {cost_s * 1e3:.2f} ms by processes"
    assert decisions(caplog) == [f"auto: the consumer's thread: waited for a batch: {waits}"]


def test_the_fastest_of_several_is_chosen(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, threads=5e-3, processes=4e-3)
    assert list(trials.epoch(200)) == list(range(200))
    assert trials.choice.reason == (
        "processes: waited for a batch: 10.00 ms by the consumer's thread, 5.00 ms by threads, 4.00 ms by processes"
    )


def test_each_batch_of_a_trial_is_delivered_by_the_engine_that_was_timed(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=5e-3)
    list(trials.epoch(100))
    tried, stayed = trials.made["processes"]
    assert len(trials.here.given) == FIRST
    assert trials.here.given + tried.given + stayed.given == list(range(100))
    assert len(tried.given) == AHEAD + TRIAL


def test_batches_prepared_while_nobody_waited_are_not_timed(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=50e-3)
    batches = trials.epoch(200)
    taken = []
    while not trials.made["processes"]:
        taken.append(next(batches))
    tried = trials.made["processes"][0]
    tried.cost_s = 0.0  # of those ahead, and of the one that was just taken
    taken += islice(batches, AHEAD - 1)
    tried.cost_s = 20e-3
    assert taken + list(batches) == list(range(200))
    assert trials.choice.reason.endswith("10.00 ms by the consumer's thread, 20.00 ms by processes")


def test_only_the_trial_has_our_time_limit(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    list(trials.epoch(100))
    assert trials.limits_s["processes"] == [pytest.approx(choice.PATIENCE_S + 100 * 10e-3), None]
    trials.choice.close()
    assert [engine.closed for engine in trials.made["processes"]] == [1, 1]


# When processes fail: as their trial begins, or with a batch of it.
FAILURES = {
    "at once": ("begin", OSError("no processes here")),
    "with its first batch": (0, OSError("no processes here")),
    "in mid-trial": (12, OSError("no processes here")),
    "with its last batch": (AHEAD + TRIAL - 1, OSError("no processes here")),
    "by hanging": (12, RuntimeError("DataLoader timed out after 11.0 seconds")),
}
over_failures = pytest.mark.parametrize("when, error", FAILURES.values(), ids=FAILURES)


def raised(when, error, begins):
    return {when if when == "begin" else begins + when: error}


@over_failures
def test_a_choice_that_fails_gives_way_and_no_batch_is_lost_or_given_twice(monkeypatch, caplog, when, error):
    trials = Trials(monkeypatch, 10e-3, processes=(1e-3, raised(when, error, FIRST)))
    assert list(trials.epoch(100)) == list(range(100))
    assert trials.progress.batches == 100
    assert trials.progress.done
    kind = type(error).__name__
    waits = "waited for a batch: 10.00 ms by the consumer's thread, processes failed"
    assert trials.choice.reason == f"the consumer's thread: {waits}"
    assert decisions(caplog) == [
        f"auto: processes cannot serve here ({kind}: {error})",
        f"auto: the consumer's thread: {waits}",
    ]
    assert list(trials.epoch(7)) == list(range(7))
    assert len(trials.made["processes"]) == 1


def test_where_one_choice_fails_the_next_is_tried(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, threads=(1e-3, {"begin": OSError()}), processes=5e-3)
    assert list(trials.epoch(200)) == list(range(200))
    assert trials.choice.reason == (
        "processes: waited for a batch: 10.00 ms by the consumer's thread, threads failed, 5.00 ms by processes"
    )


@pytest.mark.parametrize(
    "bad, chosen",
    [(3, "processes"), (FIRST + 10, HERE), (150, "processes")],
    ids=["first trial", "second trial", "rest"],
)
def test_an_error_of_the_dataset_comes_out_and_the_next_batch_can_be_had(monkeypatch, bad, chosen):
    error = ValueError("the dataset's own")
    trials = Trials(monkeypatch, 10e-3, {bad: error}, processes=(1e-3, {bad: error}))
    batches = trials.epoch(200)
    assert list(islice(batches, bad)) == list(range(bad))
    with pytest.raises(ValueError) as caught:
        next(batches)
    assert caught.value is error
    assert error.__context__ is None
    assert list(batches) == list(range(bad + 1, 200))
    assert trials.choice.chosen == chosen


def test_epochs_shorter_than_a_trial_go_on_with_it_in_the_next(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    for _ in range(8):
        assert list(trials.epoch(10)) == list(range(10))
        assert trials.progress.done
        assert trials.progress.batches == 10
    assert len(trials.here.given) == 39  # all of three epochs, and nine of the fourth
    assert trials.choice.chosen == "processes"


def test_epochs_too_short_to_time_anything_end_the_trials(monkeypatch, caplog):
    trials = Trials(monkeypatch, 100e-3, processes=1e-3)
    epochs = 0
    while trials.choice.chosen is None:
        assert list(trials.epoch(AHEAD)) == list(range(AHEAD))
        epochs += 1
        assert epochs < 20
    reason = "the consumer's thread: too few batches an epoch to time another choice"
    assert decisions(caplog) == [f"auto: {reason}"]
    assert sum(engine.parts for engine in trials.made["processes"]) == choice.ATTEMPTS + 1


def test_an_epoch_that_ends_with_a_trial_asks_nothing_more_of_any_engine(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    batches = trials.epoch(3)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    assert not trials.progress.done
    assert list(batches) == []
    assert trials.progress.done
    assert trials.made == {"processes": []}


@pytest.mark.parametrize("taken", [1, FIRST + 2, FIRST + AHEAD + 4, FIRST + AHEAD + 14])
def test_a_consumer_that_breaks_in_mid_trial_finds_the_next_epoch_whole(monkeypatch, taken):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    batches = trials.epoch(200)
    assert list(islice(batches, taken)) == list(range(taken))
    assert trials.progress.batches == taken
    assert not trials.progress.done
    batches.close()
    assert list(trials.epoch(200)) == list(range(200))
    assert trials.choice.chosen == "processes"


def test_two_epochs_at_once_decide_once(monkeypatch, caplog):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    one, two = trials.epoch(200), trials.epoch(200)
    pairs = list(zip(one, two, strict=True))
    assert pairs == [(i, i) for i in range(200)]
    assert len(decisions(caplog)) == 1


@pytest.mark.parametrize("lead", [0, 2])
@over_failures
def test_two_epochs_at_once_both_outlive_a_choice_that_fails(monkeypatch, when, error, lead):
    trials = Trials(monkeypatch, 10e-3, processes=(1e-3, raised(when, error, FIRST // 2)))
    one, two = trials.epoch(200), trials.epoch(200 - lead)
    assert list(islice(one, lead)) == list(range(lead))
    assert list(zip(one, two, strict=True)) == [(i + lead, i) for i in range(200 - lead)]
    assert trials.choice.engine is trials.here
    assert trials.made["processes"]


def test_what_fails_after_another_epoch_chose_it_stays_chosen(monkeypatch, caplog):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    one, two = trials.epoch(200), trials.epoch(200)
    taken = [pair[0] for pair in zip(islice(one, FIRST + 10), two, strict=False)]
    assert list(two) == list(range(len(taken), 200))
    trials.made["processes"][0].raises[len(taken) + 2] = OSError()
    assert taken + list(one) == list(range(200))
    assert trials.choice.chosen == "processes"
    assert len(decisions(caplog)) == 1


def test_without_another_choice_nothing_is_timed(monkeypatch, caplog):
    trials = Trials(monkeypatch, 10e-3)
    assert trials.choice.engine is trials.here
    assert decisions(caplog) == ["auto: the consumer's thread: nothing else is said to be safe"]
    assert list(trials.epoch(3)) == [0, 1, 2]
    assert trials.here.parts == 1


def test_a_daemonic_process_which_may_have_no_children_tries_no_processes(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    trials = Trials(monkeypatch, 10e-3, processes=1e-3, threads=1e-3)
    list(trials.epoch(200))
    assert trials.choice.chosen == "threads"
    assert trials.made["processes"] == []


def test_close_closes_the_engines_that_were_made(monkeypatch):
    trials = Trials(monkeypatch, 10e-3, processes=1e-3)
    batches = trials.epoch(200)
    list(islice(batches, FIRST + 10))
    trials.choice.close()
    assert [trials.here.closed, *(engine.closed for engine in trials.made["processes"])] == [1, 1]


class Sleeper:
    """A dataset of numbers that take a few milliseconds each, without the interpreter's lock."""

    process_safe = True

    def __init__(self, samples=120):
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        time.sleep(0.004)
        return index


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(4))


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(engines, "usable_cores", lambda: 2)


@pytest.fixture
def others_win(monkeypatch, two_cores):
    """Trials as short as can be, in which the consumer's thread seems to take an hour: however busy the machine is."""
    monkeypatch.setattr(choice, "TRIAL_S", 0.02)
    monkeypatch.setattr(choice, "TRIAL_BATCHES", 2)

    def won(waits_s, attempts):
        return verdict(waits_s | {HERE: [wait_s + 3600 for wait_s in waits_s[HERE]]}, attempts)

    monkeypatch.setattr(choice, "verdict", won)


def served(loader):
    return [batch.tolist() for batch in loader]


IN_ORDER = [[i, i + 1] for i in range(0, 120, 2)]


def test_processes_are_chosen_in_earnest_and_serve_the_same_batches(others_win, caplog):
    with ReferenceLoader(Sleeper(), 2) as loader:
        assert (loader.loader, loader.num_workers, loader.prefetch_depth) == (None, 0, 0)
        assert served(loader) == IN_ORDER
        assert type(loader.loader) is DataLoader
        assert loader.loader.num_workers == 2
        assert loader.prefetch_depth == 4
        assert served(loader) == IN_ORDER
        assert len(decisions(caplog)) == 1


@pytest.mark.parametrize("generator", [None, torch.Generator], ids=["torch's", "own"])
def test_the_orders_of_later_epochs_do_not_depend_on_what_was_chosen(others_win, generator):
    def orders(loader_class):
        torch.manual_seed(3)
        own = generator and generator().manual_seed(4)
        loader = loader_class(Sleeper(60), 2, shuffle=True, generator=own)
        return loader, [served(loader) for _ in range(3)]

    loader, ours = orders(ReferenceLoader)
    with loader:
        assert loader.loader is not None
        assert ours == orders(DataLoader)[1]


def note_worker(worker_id):
    torch.utils.data.get_worker_info().dataset.samples = -worker_id - 1


class Telling(Sleeper):
    """Says in which worker it is, if ``note_worker`` was called there."""

    def __getitem__(self, index):
        super().__getitem__(index)
        return min(self.samples, 0)


def test_worker_init_fn_is_called_in_the_processes_that_auto_starts(others_win):
    with ReferenceLoader(Telling(), 2, worker_init_fn=note_worker) as loader:
        list(loader)
        assert loader.loader is not None
        assert {number for batch in loader for number in batch.tolist()} == {-1, -2}


def candidates(dataset, **arguments):
    with ReferenceLoader(dataset, 2, **arguments) as loader:
        engine = loader._engine
        return list(engine._others) if isinstance(engine, Choice) else None


class Plain(Sleeper):
    """May hold an open file, which processes would share, or draw from a generator, which each of them has."""

    process_safe = False


class ThreadSafe(Sleeper):
    thread_safe = True


@pytest.mark.parametrize(
    "dataset, arguments, others",
    [
        (Plain(), {}, []),
        (Sleeper(), {}, ["processes"]),
        (Sleeper(), {"memory_budget": 1 << 20}, []),
        (ThreadSafe(), {}, ["threads", "processes"]),
        (ThreadSafe(), {"num_workers": 0}, None),
        (ThreadSafe(), {"num_workers": 2}, None),
        (ThreadSafe(), {"worker_kind": "threads"}, None),
        (Stream(), {}, None),
        (torch.zeros(4), {}, None),
    ],
    ids=[
        "map-style",
        "process-safe",
        "process-safe under a budget",
        "thread-safe",
        "no workers",
        "workers",
        "threads",
        "iterable",
        "tensor",
    ],
)
def test_only_what_a_map_style_dataset_says_it_bears_is_tried(two_cores, dataset, arguments, others):
    assert candidates(dataset, **arguments) == others


@pytest.mark.parametrize(
    "dataset, others", [(Sleeper(), []), (ThreadSafe(), ["threads"])], ids=["map-style", "thread-safe"]
)
def test_on_one_core_processes_are_not_tried(monkeypatch, dataset, others):
    monkeypatch.setattr(engines, "usable_cores", lambda: 1)
    assert candidates(dataset) == others


def test_threads_chosen_in_earnest_serve_the_same_batches(others_win, monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with ReferenceLoader(ThreadSafe(), 2) as loader:
        assert served(loader) == IN_ORDER
        assert loader._engine.chosen == "threads"
        assert (loader.loader, loader.prefetch_depth) == (None, 2)
        assert served(loader) == IN_ORDER


def test_a_decision_stands_for_later_loaders_of_the_same_dataset_and_batches(monkeypatch):
    for name, value in {"TRIAL_S": 0, "TRIAL_BATCHES": 1, "HANDOVER_S": 0}.items():
        monkeypatch.setattr(choice, name, value)
    dataset = Sleeper()
    with ReferenceLoader(dataset, 2) as first:
        for _ in range(choice.ATTEMPTS + 3):
            list(first)
        decided = first._engine.reason
        assert first._engine.chosen is not None
    with ReferenceLoader(dataset, 2) as second:
        assert second._engine.reason == decided
    for other, size, collate in ((dataset, 3, None), (dataset, 2, list), (Sleeper(), 2, None)):
        assert ReferenceLoader(other, size, collate_fn=collate)._engine.chosen is None


def test_what_cannot_be_remembered_is_decided_anew():
    for dataset in ([1, 2], "text", {1: 2}):
        assert choice.remembered(dataset, 1, None) == {}
        choice.remembered(dataset, 1, None)[HERE] = [1.0]
        assert choice.remembered(dataset, 1, None) == {}


def test_what_earlier_loaders_waited_counts(monkeypatch):
    few, enough = [0.01] * 4, [0.01] * 30
    trials = Trials(monkeypatch, 0.01, waits_s={HERE: enough, "threads": enough}, processes=0.002)
    assert trials.choice.chosen is None  # there are no threads any more, and processes were not timed
    trials = Trials(monkeypatch, 0.01, waits_s={HERE: enough, "processes": [0.002] * 4}, processes=0.002)
    assert trials.choice.chosen is None
    trials = Trials(monkeypatch, 0.01, waits_s={HERE: few, "processes": [0.002] * 30}, processes=0.002)
    assert trials.choice.chosen is None
    trials = Trials(monkeypatch, 0.01, waits_s={HERE: enough, "processes": [0.002] * 30}, processes=0.002)
    assert trials.choice.chosen == "processes"
    trials = Trials(monkeypatch, 0.01, waits_s={HERE: enough, "processes": [float("inf")] * 8}, processes=0.002)
    assert trials.choice.chosen == HERE


def one_way(samples, by=None):
    return samples


class Bound:
    def collate(self, samples):
        return samples


def test_each_collate_has_timings_of_its_own():
    class Data:
        pass

    data, bound = Data(), Bound()
    kinds = [None, one_way, partial(one_way, by=1), partial(one_way, by=2), lambda s: s, lambda s: [s], list]
    kinds += [bound.collate, Bound().collate]
    kept = [choice.remembered(data, 4, collate) for collate in kinds]
    assert len(set(map(id, kept))) == len(kinds)
    for collate, waits_s in zip(kinds, kept, strict=True):
        assert choice.remembered(data, 4, collate) is waits_s
    assert choice.remembered(data, 4, bound.collate) is kept[-2]


def test_a_collate_that_is_remembered_is_not_kept():
    class Data:
        def collate(self, samples):
            return samples

    data = Data()
    choice.remembered(data, 4, data.collate)
    choice.remembered(data, 4, partial(data.collate))
    gone = weakref.ref(data)
    del data
    gc.collect()
    assert gone() is None
