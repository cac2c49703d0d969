"""What a loader's workers do, done again in a process of ours."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

from pytest_loaderperf import PersistentExecutor, ReferenceLoader, measure
from pytest_loaderperf.measurement import Key, Side, Watchdog, Work
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.remote import player
from pytest_loaderperf.remote.replay import ReplayError, player_of, replayed_by
from pytest_loaderperf.runs.notes import notes_of

SIDES = ["loader", "against"]


class Rows(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((8,), float(index))


class Stream(IterableDataset):
    def __iter__(self):
        assert get_worker_info().num_workers == 2
        return iter(torch.zeros(40, 8))


class Named(DataLoader):
    name = "mine"


class Iterates(DataLoader):
    def __iter__(self):
        yield from super().__iter__()


class MakesIterators(DataLoader):
    def _get_iterator(self):
        return super()._get_iterator()


class ReferenceIterates(ReferenceLoader):
    def __iter__(self):
        yield from super().__iter__()


@pytest.fixture
def replay():
    watchdog = Watchdog(60, pytest.fail)
    made, sides = [], []

    def make(loader, seed=1, count=None):
        sides.append(Side("loader", lambda: loader, watchdog, count=count, deliver=None))
        made.append(replayed_by(watchdog)(sides[-1], seed))
        return made[-1]

    yield make
    for one in made:
        if one is not None:
            one.close()
            one.close()
    for side in sides:
        side.close()
    watchdog.close()


def taken(replayed, batches):
    replayed.conditions = Conditions.now()
    latencies = []
    assert replayed.ready(batches, warm=False)
    nanoseconds, samples = replayed.slice(batches, latencies)
    assert len(latencies) == batches
    assert nanoseconds >= sum(latencies) > 0
    return samples


LOADERS = {
    "map-style": lambda: DataLoader(Rows(), 4, num_workers=2),
    "shuffled": lambda: DataLoader(Rows(), 4, num_workers=2, shuffle=True),
    "a stream": lambda: DataLoader(Stream(), 4, num_workers=2),
    "batches of a sampler": lambda: DataLoader(Rows(), batch_sampler=[[0, 1, 2, 3]] * 10, num_workers=2),
    "its own collate": lambda: DataLoader(Rows(), 4, num_workers=2, collate_fn=torch.stack),
    "workers that persist": lambda: DataLoader(Rows(), 4, num_workers=2, persistent_workers=True),
    "a subclass": lambda: Named(Rows(), 4, num_workers=2),
    "a context of the user's own": lambda: DataLoader(Rows(), 4, num_workers=2, multiprocessing_context="fork"),
    "__getitems__": lambda: DataLoader(TensorDataset(torch.zeros(40, 8)), 4, num_workers=2),
    "the reference loader": lambda: ReferenceLoader(Rows(), 4, num_workers=2, worker_kind="processes"),
    "its threads": lambda: ReferenceLoader(Rows(), 4, num_workers=2, worker_kind="threads", shuffle=True),
    "its threads, of arrays": lambda: ReferenceLoader(
        torch.zeros(40, 1 << 20), 4, num_workers=2, worker_kind="threads"
    ),
    "its threads, of a user's executor": lambda: ReferenceLoader(Rows(), 4, executor=PersistentExecutor(2)),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_loaders_with_workers_are_replayed(replay, make):
    replayed = replay(make())
    assert replayed.inline
    assert taken(replayed, 3) == 12
    assert replayed.workers == 2


NOT_REPLAYED = {
    "no workers": lambda: DataLoader(Rows(), 4),
    "no DataLoader": lambda: [torch.zeros(4, 8)] * 30,
    "the reference loader without threads": lambda: ReferenceLoader(Rows(), 4, num_workers=0),
    "its own __iter__": lambda: Iterates(Rows(), 4, num_workers=2),
    "its own _get_iterator": lambda: MakesIterators(Rows(), 4, num_workers=2),
    "the reference loader's, too": lambda: ReferenceIterates(Rows(), 4, num_workers=2, worker_kind="processes"),
}


@pytest.mark.parametrize("make", NOT_REPLAYED.values(), ids=NOT_REPLAYED)
def test_loaders_without_such_workers_are_not(replay, make):
    assert replay(make()) is None


def test_epochs_follow_each_other(replay):
    replayed = replay(DataLoader(Rows(), 4, num_workers=2))
    replayed.conditions = Conditions.now()
    assert replayed.slice(11, []) is None
    assert replayed.epoch_batches == 10
    assert [taken(replayed, 6) for _ in range(4)] == [24] * 4


class Notes(Rows):
    """Its samples tell what a worker is."""

    def __init__(self):
        self.initialized = torch.zeros(1)

    def __getitem__(self, index):
        info = get_worker_info()
        assert info.dataset is self
        drawn = [random.random(), float(np.random.rand()), torch.rand(()).item()]  # noqa: NPY002, S311 a worker's states
        return torch.tensor(
            [info.id, info.num_workers, torch.get_num_threads(), self.initialized.item(), index, *drawn]
        )


def initialize(worker):
    get_worker_info().dataset.initialized += 1 + worker


def noted(seed, tmp_path):
    """What the samples of the first batches were, in the process that made them."""
    file = tmp_path / "samples.pt"

    def collate(samples):
        torch.save([*(torch.load(file) if file.exists() else []), *samples], file)
        return torch.stack(samples)

    watchdog = Watchdog(60, pytest.fail)
    loader = DataLoader(Notes(), 4, True, num_workers=2, worker_init_fn=initialize, collate_fn=collate)
    side = Side("loader", lambda: loader, watchdog, count=None, deliver=None)
    player, _ = player_of(side, seed, watchdog)
    try:
        player.ask("take", 2)
        return torch.stack(torch.load(file))[-8:]  # without the first batch of each
    finally:
        player.close()
        side.close()
        watchdog.close()
        file.unlink()


def test_a_replay_is_one_worker_the_next_seed_another_and_order_and_draws_are_those_of_its_seed(tmp_path):
    first, again, other = (noted(seed, tmp_path) for seed in (7, 7, 8))
    assert first[:, :4].unique(dim=0).tolist() == [[1, 2, 1, 2]]
    assert other[:, :4].unique(dim=0).tolist() == [[0, 2, 1, 1]]
    assert torch.equal(first, again)
    assert not torch.equal(first[:, 4], other[:, 4])


class SaysWho(Rows):
    def __getitem__(self, index):
        return [0] * (1 + get_worker_info().id)


@pytest.mark.parametrize("init", [None, lambda worker: None], ids=["none", "its own"])
def test_a_replay_is_each_worker_in_turn(replay, init):
    """Worker 0 gives batches of one sample, worker 1 of two."""
    replayed = replay(DataLoader(SaysWho(), batch_size=None, num_workers=2, worker_init_fn=init), count=len)
    numbers = [taken(replayed, 1) for _ in range(4)]
    assert numbers in ([1, 2, 1, 2], [2, 1, 2, 1])


class Raises(Rows):
    def __init__(self, at):
        self.at = at

    def __getitem__(self, index):
        if index == self.at and get_worker_info().num_workers == 2:
            raise ValueError("broken sample")
        return super().__getitem__(index)


def test_a_dataset_that_raises_there_says_so_and_is_not_replayed(replay):
    with pytest.raises(ReplayError, match="broken sample"):
        replay(DataLoader(Raises(0), 4, num_workers=2))
    replayed = replay(DataLoader(Raises(21), 4, num_workers=2))
    with pytest.raises(ReplayError, match=r"loader: replaying its workers: (?s:.*)broken sample"):
        taken(replayed, 6)
    replayed.close()
    with pytest.raises(ReplayError, match="released"):
        taken(replayed, 6)


def test_a_worker_init_fn_that_raises_there_is_not_replayed(replay):
    def refuse(worker):
        raise ValueError("no")

    with pytest.raises(ReplayError, match="no"):
        replay(DataLoader(Rows(), 4, num_workers=2, worker_init_fn=refuse))


def test_a_start_method_of_the_users_own_is_used(replay):
    loader = DataLoader(TensorDataset(torch.zeros(40, 8)), 4, num_workers=2, multiprocessing_context="spawn")
    assert taken(replay(loader), 3) == 12


def test_what_cannot_be_given_to_a_process_is_not_replayed(replay):
    loader = DataLoader(Rows(), 4, num_workers=2, multiprocessing_context="spawn", collate_fn=lambda rows: rows)
    with pytest.raises(ReplayError, match="cannot be given to another process"):
        replay(loader, count=len)


def test_a_replay_that_is_killed_says_so(replay):
    replayed = replay(DataLoader(Rows(), 4, num_workers=2))
    psutil.Process(replayed._player.pid).kill()
    with pytest.raises(ReplayError, match="its process ended"):
        taken(replayed, 2)


def test_replays_are_made_anew_with_their_sides_and_end_with_the_run():
    before = {child.pid for child in psutil.Process().children()}

    def make():
        return DataLoader(Rows(), 4, num_workers=2)

    with measure(make, make, budget=0.3) as run:
        assert run.rounds.replayed(SIDES)
        players = [run.rounds.replays._made[name]._player.pid for name in SIDES]
        records = run.rounds.observe([Key(name, Work()) for name in SIDES]).records
        assert [record.samples % 4 for record in records.values()] == [0, 0]
        assert len(records) == 2
        run.rounds.rebuild(SIDES)
        assert run.rounds.replayed(SIDES)
        assert not set(players) & {run.rounds.replays._made[name]._player.pid for name in SIDES}
        assert not any(map(psutil.pid_exists, players))
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.slow
def test_a_replay_that_fails_in_the_middle_of_a_claim_leaves_it_to_the_loaders():
    broken = multiprocessing.Value("b", 0)

    class FailsInAReplay(Rows):
        def __len__(self):
            return 4000

        def __getitem__(self, index):
            time.sleep(0.0001)
            if broken.value and not works_for_torch():
                raise ValueError("broken in a replay")
            return super().__getitem__(index)

    def make():
        return DataLoader(FailsInAReplay(), 4, num_workers=2)

    keys = [Key(name, Work()) for name in SIDES]
    with measure(make, make, budget=20) as run:
        assert run.rounds.replayed(SIDES)
        assert set(run.rounds.observe(keys).records) == set(keys)
        broken.value = 1
        assert run.rounds.observe(keys).records == {}
        assert not run.rounds.replayed(SIDES)
        assert str((run.throughput >= 0.05 * run.against.throughput).ruling.outcome) == "PASS"


def works_for_torch():
    """Whether this process is a worker of torch's, which names its main thread."""
    return Path("/proc/self/comm").read_text() == "pt_data_worker\n"


@pytest.fixture
def hasty():
    """A watchdog that soon takes a loader for hung."""
    watchdog = Watchdog(1, pytest.fail)
    yield watchdog
    watchdog.close()


def test_a_replay_that_hangs_is_left_out_and_ended(hasty):
    side = Side("loader", lambda: DataLoader(Rows(), 4, num_workers=2), hasty, count=None, deliver=None)
    player, _ = player_of(side, 1, hasty)
    psutil.Process(player.pid).suspend()
    with pytest.raises(ReplayError, match=r"its process did not answer for 0\.5 s"):
        player.ask("take", 2)
    side.close()
    assert not psutil.pid_exists(player.pid)


class Locked(Rows):
    def __init__(self):
        self.lock = threading.Lock()

    def __getitem__(self, index):
        with self.lock:
            return super().__getitem__(index)


def test_a_lock_that_is_held_while_the_replay_starts_is_no_hang_of_the_loader(hasty):
    dataset = Locked()
    side = Side("loader", lambda: DataLoader(dataset, 4, num_workers=2), hasty, count=None, deliver=None)
    side.start()
    with dataset.lock, pytest.raises(ReplayError, match="did not answer"):
        replayed_by(hasty)(side, 1)
    side.close()


def test_each_worker_of_a_stream_has_its_turn(tmp_path):
    file = tmp_path / "workers.txt"

    class Told(IterableDataset):
        def __iter__(self):
            with file.open("a") as told:
                told.write(f"{get_worker_info().id} of {get_worker_info().num_workers}\n")
            return iter(torch.zeros(40, 8))

    watchdog = Watchdog(60, pytest.fail)
    side = Side("loader", lambda: DataLoader(Told(), 4, num_workers=2), watchdog, count=None, deliver=None)
    crew = replayed_by(watchdog)(side, 1)
    try:
        assert sorted(file.read_text().splitlines()) == ["0 of 2", "1 of 2"]
        assert [taken(crew, 3) for _ in range(6)] == [12] * 6
    finally:
        crew.close()
        side.close()
        watchdog.close()


class Remembers(Rows):
    """Tells which process saw an index, whether it had seen it before, and what it drew."""

    def __init__(self, path):
        self.path, self.seen = path, set()

    def __getitem__(self, index):
        with self.path.open("a") as told:
            told.write(f"{os.getpid()} {index in self.seen} {random.random()}\n")  # noqa: S311 what a worker draws
        self.seen.add(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("persists", [False, True])
def test_a_replay_remembers_an_epoch_as_long_as_workers_do(replay, tmp_path, persists):
    path = tmp_path / "seen.txt"
    replayed = replay(DataLoader(Remembers(path), 4, num_workers=2, persistent_workers=persists))
    replayed.conditions = Conditions.now()
    assert replayed.slice(11, []) is None
    assert replayed.epoch_batches == 10
    assert [taken(replayed, 6) for _ in range(3)] == [24] * 3
    assert replayed.epoch_batches == 10
    told = [line.split() for line in path.read_text().splitlines()]
    pids = list(dict.fromkeys(pid for pid, _, _ in told))
    assert len(pids) == (1 if persists else 4)
    assert pids[-1] == str(replayed.children[0])
    assert not any(psutil.pid_exists(int(pid)) for pid in pids[:-1])
    assert {seen for _, seen, _ in told} == ({"False", "True"} if persists else {"False"})
    assert len({drawn for _, _, drawn in told}) == len(told)  # epochs are not drawn alike


class Caches(Rows):
    """Keeps what it made, if it ``keeps`` anything."""

    def __init__(self, *, keeps):
        self.keeps, self.kept = keeps, {}

    def __getitem__(self, index):
        if index not in self.kept:
            time.sleep(0.002)
            if not self.keeps:
                return super().__getitem__(index)
            self.kept[index] = super().__getitem__(index)
        return self.kept[index]


@pytest.mark.parametrize("persists", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_cache_speeds_up_the_work_where_workers_live_to_use_it(persists):
    def make(*, keeps):
        return DataLoader(Caches(keeps=keeps), 4, num_workers=2, persistent_workers=persists)

    keys, ratios = [Key(name, Work()) for name in SIDES], []
    with measure(make(keeps=False), make(keeps=True), budget=0.1) as run:
        assert run.rounds.replayed(SIDES)
        for _ in range(40):
            records = run.rounds.observe(keys).records
            without, kept = (records[key].wall_ns / records[key].samples for key in keys)
            ratios.append(without / kept)
    assert statistics.median(ratios[-20:]) > 5 if persists else statistics.median(ratios) < 2


@pytest.mark.slow
def test_a_new_replay_does_another_workers_work(tmp_path):
    path = tmp_path / "workers.txt"

    class Told(Rows):
        def __getitem__(self, index):
            if not works_for_torch():
                with path.open("a") as told:
                    told.write(f"{get_worker_info().id}\n")
            return super().__getitem__(index)

    def workers():
        told = path.read_text().split()
        path.write_text("")
        return set(told)

    def make():
        return DataLoader(Told(), 4, num_workers=2)

    with measure(make, make, budget=0.1) as run:
        seen = []
        for _ in range(3):
            assert run.rounds.replayed(SIDES)
            seen.append(workers())
            run.rounds.rebuild(SIDES)
    assert seen in ([{"0"}, {"1"}, {"0"}], [{"1"}, {"0"}, {"1"}])


class Shared(Rows):
    """Its file was opened before its workers began: one place in it for all of them."""

    def __init__(self, file):
        self.file = file

    def __getitem__(self, index):
        os.read(self.file.fileno(), 4)
        return super().__getitem__(index)


def test_a_replay_that_would_move_the_place_in_a_file_of_ours_is_given_up_and_the_place_restored(replay, tmp_path):
    path = tmp_path / "rows.bin"
    path.write_bytes(bytes(1000))
    with path.open("rb", buffering=0) as file:
        file.seek(40)
        loader = DataLoader(Shared(file), 4, num_workers=1)
        with pytest.raises(ReplayError, match="files that were opened before"):
            replay(loader)
        assert file.tell() == 40


class Holds(Rows):
    def __init__(self, held):
        self.held = held


@pytest.mark.parametrize("where", ["dataset", "collate_fn", "worker_init_fn"])
def test_a_loader_whose_workers_share_a_channel_is_not_replayed(where):
    queue = multiprocessing.SimpleQueue()
    named = {} if where == "dataset" else {where: lambda given, queue=queue: torch.stack(given)}
    loader = DataLoader(Holds(queue if where == "dataset" else None), 4, num_workers=2, **named)
    watchdog = Watchdog(60, pytest.fail)
    side = Side("loader", lambda: [torch.zeros(4, 8)] * 9, watchdog, count=None, deliver=None)
    side.loader = loader
    with pytest.raises(
        ReplayError, match=r"loader: .* multiprocessing\.queues\.SimpleQueue, and its own workers would"
    ):
        player_of(side, 1, watchdog)
    side.close()
    watchdog.close()


def test_the_table_says_why_workers_are_not_replayed():
    queue = multiprocessing.SimpleQueue()

    def make(**named):
        return DataLoader(Holds(**named), 4, num_workers=2, persistent_workers=True)

    with measure(lambda: make(held=queue), lambda: make(held=None), budget=0.5) as run:
        assert run.throughput >= 0.01 * run.against.throughput
        told = [note for note in notes_of(run) if "so workers' work is not compared in turns" in note]
    (note,) = told
    assert note.startswith("loader: its dataset holds a multiprocessing.queues.SimpleQueue, ")


class Takes(Rows):
    """Reads from, or writes to, a descriptor that nothing tells it has."""

    def __init__(self, take):
        self.take = take

    def __getitem__(self, index):
        if not works_for_torch():
            assert self.take()
        return super().__getitem__(index)


def test_a_replay_reads_and_writes_no_pipe_or_socket_that_it_was_not_told_of(replay):
    (reads, writes), (ours, theirs) = os.pipe(), socket.socketpair()
    os.write(writes, b"a message")
    ours.send(b"a message")
    number = theirs.fileno()
    for take in (
        lambda: os.read(reads, 9),
        lambda: os.write(writes, b"another"),
        lambda: os.read(number, 9),
        lambda: os.write(number, b"another"),
    ):
        with pytest.raises(ReplayError, match="loader:"):
            replay(DataLoader(Takes(take), 4, num_workers=2))
    assert os.read(reads, 99) == b"a message"
    assert theirs.recv(99) == b"a message"
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(99)
    for end in (ours, theirs):
        end.close()
    for descriptor in (reads, writes):
        os.close(descriptor)


def test_sides_with_other_numbers_of_workers_are_not_compared_by_their_work():
    with measure(
        lambda: DataLoader(Rows(), 2, num_workers=2), lambda: DataLoader(Rows(), 2, num_workers=1), budget=0.1
    ) as run:
        assert not run.rounds.replayed(SIDES)


PARENT = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
from pytest_loaderperf.measurement import Side, Watchdog
from pytest_loaderperf.remote.replay import player_of

if __name__ == "__main__":
    watchdog = Watchdog(60, print)
    players = []
    for method in ("fork", "fork", "forkserver"):
        loader = DataLoader(TensorDataset(torch.zeros(40, 8)), 4, num_workers=2, multiprocessing_context=method)
        side = Side("loader", lambda: loader, watchdog, count=None, deliver=None)
        players.append(player_of(side, 1, watchdog)[0])
    print(*(player.pid for player in players), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_replays_end_with_a_parent_that_was_killed(tmp_path, quick_start):
    with (tmp_path / "out.txt").open("w+") as out:  # no pipe: its children would hold it open
        subprocess.run([sys.executable, "-c", PARENT], stdout=out, check=False, timeout=60)
        out.seek(0)
        pids = [int(pid) for pid in out.read().split()]
    assert len(pids) == 3
    until = time.monotonic() + 15
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, pids))


def test_threads_that_torch_starts_in_a_replay_are_not_those_of_its_dataset():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    torch.set_num_threads(before)  # torch 2.6 then starts threads where their number is set after a fork

    def make_loader():
        return DataLoader(Rows(), 4, num_workers=2)

    with measure(make_loader, against=make_loader, budget=0.3) as run:
        assert run.rounds.replayed(["loader", "against"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_comparison_without_replays_leaves_those_of_others():
    def workers(number):
        return lambda: DataLoader(Rows(), 4, num_workers=number)

    others = {"same": workers(1), "more": workers(2), "none": workers(0)}
    with measure(workers(1), against=others, budget=0.3) as run:
        for name in ("roofline", "none", "more"):
            assert not run.rounds.replayed(["loader", name])
        assert run.rounds.replayed(["loader", "same"])


class _Timed:
    """A side whose ``take`` gives a batch of 10 ms in which it ran or waited."""

    def take(self, batches):
        return None if batches > 4 else SteadyRecord((6_000_000, 4_000_000), 10_000_000, 8, 0)


@pytest.mark.parametrize(
    "waited_ns, lasted_ns, wall_ns",
    [
        (0, 10_100_000, 10_000_000),
        (5_000_000, 10_000_000, 5_000_000),
        (5_000_000, 15_000_000, 10_000_000),  # it waited before the first batch
        (7_000_000, 12_000_000, 5_000_000),  # 2 ms of it may have been before
        (20_000_000, 10_000_000, 1),
    ],
)
def test_time_in_which_others_had_the_cpu_does_not_count_as_work(monkeypatch, waited_ns, lasted_ns, wall_ns):
    clock, waits = itertools.cycle([0, lasted_ns]), itertools.cycle([100, 100 + waited_ns])
    monkeypatch.setattr(player, "waited_for_cpu_ns", lambda: next(waits))
    monkeypatch.setattr(player, "time", SimpleNamespace(perf_counter_ns=lambda: next(clock)))
    record = player._on_a_free_cpu(_Timed(), 2)
    assert record.wall_ns == wall_ns
    assert sum(record.latencies_ns) <= wall_ns
    assert record.samples == 8
    assert player._on_a_free_cpu(_Timed(), 5) is None
