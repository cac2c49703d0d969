"""Loaders whose workers misbehave, or do not do what they seem to: a clear error in time, and never a wrong verdict."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import socket
import threading
import time
from multiprocessing import forkserver, resource_tracker

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

from pytest_loaderperf import measure
from pytest_loaderperf.judge import WORK
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.run import Run
from pytest_loaderperf.runs.sides import LOADER, stages_of

FAILING = """
    import os
    import signal
    import time

    import pytest
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Strikes(Dataset):
        def __init__(self, strike=None):
            self.strike = strike
        def __len__(self):
            return 4000
        def __getitem__(self, index):
            time.sleep(0.0002)
            if index == 32 and self.strike is not None:  # within the first trial, however short
                self.strike()
            return torch.zeros(8)

    def dies():
        os.kill(os.getpid(), signal.SIGKILL)

    def stops():
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleeps():
        time.sleep(600)

    def raises(worker):
        raise ValueError("no such shard")

    def loader(*given, **named):
        return lambda: DataLoader(Strikes(*given), 4, num_workers=2, **named)

    def claim(loaderperf, make, left="loader"):
        run = loaderperf(make, loader()) if left == "loader" else loaderperf(loader(), make)
        assert run.throughput >= 0.01 * run.against.throughput

    def test_killed(loaderperf):
        claim(loaderperf, loader(dies))

    def test_killed_on_the_other_side(loaderperf):
        claim(loaderperf, loader(dies), left="against")

    @pytest.mark.loaderperf(timeout=1)
    def test_stopped(loaderperf):
        claim(loaderperf, loader(stops))

    def test_sound_after_stopped(loaderperf):
        claim(loaderperf, loader())
        assert loaderperf(loader()).first_batch.value < 5  # no worker is waited for that cannot end

    def test_refuses_to_start(loaderperf):
        claim(loaderperf, loader(worker_init_fn=raises))

    def test_sound_after_refused(loaderperf):
        claim(loaderperf, loader())

    def test_waits_no_longer_than_torch_may(loaderperf):
        claim(loaderperf, loader(sleeps, timeout=1))
"""


def names(process, path):
    """Whether the command of ``process``, or of what it was forked from, names ``path``."""
    return any(str(path) in argument for argument in process.info["cmdline"] or ())


@pytest.mark.slow
def test_workers_that_die_stop_or_refuse_fail_their_test_alone(pytester, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytester.makeini("[pytest]\nloaderperf_budget = 2\nloaderperf_max_budget = 2")
    pytester.makepyfile(test_it=FAILING)
    result = pytester.runpytest_subprocess("--loaderperf", "-rA", "--durations=9", timeout=120)
    result.assert_outcomes(passed=2, failed=5)
    for said in (
        r"*_ test_killed _*",
        "*RuntimeError: DataLoader worker (pid*) *",
        r"*_ test_killed_on_the_other_side _*",
        "*RuntimeError: DataLoader worker (pid*) *",
        r"*_ test_stopped _*",
        "*the loader hangs: got nothing for 1 s in stage 'loader: waiting for a batch'*",
        r"*_ test_refuses_to_start _*",
        "*ValueError: no such shard*",
        r"*_ test_waits_no_longer_than_torch_may _*",
        "*RuntimeError: DataLoader timed out after 1 seconds*",
    ):
        result.stdout.fnmatch_lines(said)
    for sound in ("stopped", "refused"):
        result.stdout.fnmatch_lines(f"PASSED test_it.py::test_sound_after_{sound}")
    left = [process for process in psutil.process_iter(["cmdline"]) if names(process, pytester.path)]
    assert psutil.wait_procs(left, timeout=60)[1] == []


QUICK, SLOW = 0.0003, 0.003  # a sample; ten times: certain, also where other work takes the CPUs


class Busy(Dataset):
    """Each sample takes ``seconds``, by ``wait``."""

    def __init__(self, seconds=QUICK, wait=time.sleep):
        self.seconds, self.wait = seconds, wait

    def __len__(self):
        return 8000

    def __getitem__(self, index):
        self.wait(self.seconds)
        return torch.full((8,), float(index))


def burn(seconds):
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


def of(dataset, **named):
    return DataLoader(dataset, 4, num_workers=2, **named)


SIDES = ["loader", "against"]
# In the explanation; sums are not named.
BY = {"work": " of the workers' work, in turns", "refills": " of CPU time, in turns", "cpu": " of CPU time in "}
# Of claims whose truth is far off: they are settled long before their budget is spent, by a quarter of the rounds that
# the usual false-alarm share asks for.
FAR = Options(budget_seconds=60, next_alpha=lambda: 0.2)


def judged(loader, against, needed, *, replayed=None, released=True, seconds=1.5, far=FAR):
    """The ruling of the claim that ``loader`` is ``needed`` times as quick as ``against``; no process stays behind.

    ``replayed``: whether the work of their workers is done again, if that is certain. ``released``: both are factories.
    """
    close = Options(budget_seconds=seconds, max_budget_seconds=seconds)
    before = set(psutil.Process().children(recursive=True))
    with Run(loader, against, options=close if 0.5 < needed < 1 else far) as run:
        verdict = run.throughput >= needed * run.against.throughput
        if replayed is not None:
            assert run.rounds.replayed(SIDES) is replayed
    begun = set(psutil.Process().children(recursive=True)) - before if released else []
    assert psutil.wait_procs(begun, timeout=60)[1] == []
    assert f"needed    at least {needed:g} x" in verdict.words
    assert [by for by, text in BY.items() if text in verdict.words] == [by for by in BY if by == verdict.ruling.by]
    assert replayed is not False or verdict.ruling.by != WORK
    return verdict.ruling


def outcome(*given, **named):
    return str(judged(*given, **named).outcome)


class Repeats(DataLoader):
    def __iter__(self):
        for batch in super().__iter__():
            yield from [batch] * 10


class Drops(DataLoader):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number % 10 == 0:
                yield batch


class IgnoresItsDataset(DataLoader):
    def _get_iterator(self):
        return iter([torch.zeros(4, 8)] * 1000)


@pytest.mark.slow
def test_a_loader_that_gives_each_batch_ten_times_is_as_quick_as_it_is():
    assert outcome(lambda: Repeats(Busy(), 4, num_workers=2), lambda: of(Busy()), 2, replayed=False) == "PASS"


@pytest.mark.slow
def test_a_loader_that_drops_nine_batches_of_ten_is_as_slow_as_it_is():
    assert outcome(lambda: Drops(Busy(), 4, num_workers=2), lambda: of(Busy()), 0.5, replayed=False) == "FAIL"


def test_a_loader_that_does_not_read_its_dataset_is_not_judged_by_it():
    ignores = IgnoresItsDataset(Busy(SLOW), 4, num_workers=2)
    assert outcome(lambda: ignores, lambda: of(Busy()), 0.5, replayed=False) == "PASS"


class Sharded(IterableDataset):
    """Each worker reads a part of its own, and one of them may be dear."""

    def __init__(self, dear=1):
        self.dear = dear

    def __iter__(self):
        worker = get_worker_info().id
        for index in range(4000):
            time.sleep(QUICK * (self.dear if worker == 1 else 1))
            yield torch.full((8,), float(index))


def test_a_shard_that_became_dear_fails_whichever_worker_reads_it():
    assert outcome(lambda: of(Sharded(dear=10)), lambda: of(Sharded()), 0.5) == "FAIL"


class Unequal(Busy):
    """What a sample takes depends on the worker."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = factors

    def __getitem__(self, index):
        time.sleep(self.seconds * self.factors[get_worker_info().id])
        return torch.full((8,), float(index))


def test_workers_that_are_unequal_on_both_sides_alike_do_not_fail():
    assert outcome(lambda: of(Unequal(1, 10)), lambda: of(Unequal(1, 10)), 0.9) != "FAIL"


@pytest.mark.slow
def test_a_loader_one_worker_of_which_became_slow_fails_by_the_clock_or_that_workers_work():
    assert outcome(lambda: of(Unequal(10, 1)), lambda: of(Unequal(1, 1)), 0.5) == "FAIL"


@pytest.mark.slow
def test_one_slow_worker_is_as_good_as_another():
    assert outcome(lambda: of(Unequal(10, 1)), lambda: of(Unequal(1, 10)), 0.97, seconds=3) != "FAIL"


class Keeps(Dataset):
    """Keeps what it has read, if it ``keeps`` anything."""

    def __init__(self, *, keeps):
        self.keeps, self.kept = keeps, {}

    def __len__(self):
        return 96

    def __getitem__(self, index):
        if index not in self.kept:
            time.sleep(2 * SLOW)  # what a busy machine adds to each batch is less
            if not self.keeps:
                return torch.zeros(8)
            self.kept[index] = torch.zeros(8)
        return self.kept[index]


def test_a_cache_that_persistent_workers_lost_does_not_pass():
    persists = {"persistent_workers": True}
    lost, kept = of(Keeps(keeps=False), **persists), of(Keeps(keeps=True), **persists)
    sure = Options(budget_seconds=60, next_alpha=lambda: 0.01)  # both begin equal, and so FAR is too near
    assert outcome(lost, kept, 0.5, released=False, far=sure) != "PASS"


@pytest.mark.slow
@pytest.mark.parametrize("persists", [False, True])
def test_the_same_cache_on_both_sides_does_not_fail(persists):
    def make():
        return of(Keeps(keeps=True), persistent_workers=persists)

    assert outcome(make, make, 0.6) != "FAIL"


class Asks(Busy):
    """Asks a server for each sample, over one connection that all workers share."""

    def __init__(self, end):
        super().__init__()
        self.end, self.lock = end, multiprocessing.Lock()

    def __getitem__(self, index):
        with self.lock:
            self.end.sendall(index.to_bytes(8, "little"))
            answer = self.end.recv(8)
        assert int.from_bytes(answer, "little") == index
        return super().__getitem__(index)


def serve(end):
    with contextlib.suppress(OSError):
        while asked := end.recv(8):
            end.sendall(asked)


@pytest.mark.slow
def test_a_connection_that_workers_share_is_theirs_alone():
    ends = [socket.socketpair() for _ in SIDES]
    servers = [threading.Thread(target=serve, args=[end], daemon=True) for _, end in ends]
    for server in servers:
        server.start()
    one, other = (Asks(end) for end, _ in ends)
    assert outcome(lambda: of(one), lambda: of(other), 0.1, replayed=False) == "PASS"
    for ours, _ in ends:
        ours.shutdown(socket.SHUT_RDWR)
    for server, pair in zip(servers, ends, strict=True):
        server.join(60)
        for end in pair:
            end.close()


@pytest.mark.slow
@pytest.mark.parametrize("persists", [False, True])
def test_the_stages_of_a_loader_whose_workers_share_a_channel_are_not_replayed_here(persists):
    shared = Busy()
    shared.queue = multiprocessing.SimpleQueue()
    with measure(lambda: of(shared, persistent_workers=persists), budget=0.1) as run:
        assert stages_of(run.rounds.sides[LOADER].loader, run._watchdog) == {}
    with measure(lambda: of(Busy(), persistent_workers=persists), budget=0.1) as run:
        assert set(stages_of(run.rounds.sides[LOADER].loader, run._watchdog)) == {"sampler", "fetch", "collate"}


class Draws(Busy):
    """Seeds and draws wherever it is asked."""

    def __getitem__(self, index):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 the state that users' datasets draw from
        torch.manual_seed(0)
        return torch.rand(8)


def test_replaying_stages_here_draws_nothing():
    with measure(lambda: of(Draws()), budget=0.1) as run:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 as above
        torch.manual_seed(1)
        assert stages_of(run.rounds.sides[LOADER].loader, run._watchdog)
        drawn = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002, S311 as above
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 as above
    torch.manual_seed(1)
    assert drawn == (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002, S311 as above


class Fed(IterableDataset):
    """Gives the numbers that were put into a queue, each to one worker."""

    def __init__(self, numbers):
        self.queue = multiprocessing.SimpleQueue()
        self.sent = numbers

    def feed(self):
        for number in [*range(self.sent), None, None]:
            self.queue.put(number)

    def __iter__(self):
        while (number := self.queue.get()) is not None:
            time.sleep(QUICK)
            yield torch.full((8,), float(number))


@pytest.mark.slow
def test_messages_to_workers_reach_them_all():
    fed, read = Fed(4000), []
    feeder = threading.Thread(target=fed.feed, daemon=True)
    feeder.start()

    def touched(batch):
        read.extend(batch[:, 0].tolist())

    with measure(lambda: of(fed), lambda: of(Busy()), budget=0.2, max_budget=0.2, touch=touched) as run:
        assert not run.rounds.replayed(SIDES)
        taken = len(read)
        run.rounds.sides["loader"].finish_epoch()
    assert taken
    assert sorted(number for number in set(read) if number) == list(range(1, 4000))
    feeder.join(60)


@pytest.mark.slow
def test_workers_that_burn_are_told_apart_from_slower_ones():
    assert outcome(lambda: of(Busy(wait=burn)), lambda: of(Busy(wait=burn)), 0.8) != "FAIL"
    assert outcome(lambda: of(Busy(SLOW, burn)), lambda: of(Busy(wait=burn)), 0.5) == "FAIL"


class Wrapper:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


@pytest.mark.slow
def test_wrappers_of_wrappers_are_measured_as_they_are():
    assert outcome(lambda: Wrapper(Wrapper(Wrapper(of(Busy(SLOW))))), lambda: of(Busy()), 0.5, replayed=False) == "FAIL"


class Nested(Busy):
    """Its workers start threads of their own."""

    def __init__(self, seconds=QUICK):
        super().__init__(seconds)
        self.pool = None

    def __getitem__(self, index):
        if self.pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self.pool = ThreadPoolExecutor(2)
        return self.pool.submit(super().__getitem__, index).result()


@pytest.mark.slow
def test_workers_with_threads_of_their_own_are_measured_by_the_clock():
    assert outcome(lambda: of(Nested(SLOW)), lambda: of(Nested()), 0.5, replayed=False) == "FAIL"


class NestedProcesses(Busy):
    def __getitem__(self, index):
        next(iter(of(Busy())))  # daemonic processes cannot have children
        return super().__getitem__(index)


def test_workers_that_start_workers_get_the_interpreters_own_words():
    with pytest.raises(AssertionError, match="daemonic processes are not allowed to have children"):
        outcome(lambda: of(NestedProcesses()), lambda: of(Busy()), 0.97)


def of_tensors(method):
    return DataLoader(
        TensorDataset(torch.zeros(4000, 64)), 16, num_workers=1, multiprocessing_context=method, persistent_workers=True
    )


@pytest.mark.slow
def test_start_methods_of_the_users_own_are_measured():
    resource_tracker.ensure_running()  # it and the server stay for whoever comes next
    forkserver.ensure_running()
    # As objects, which are not built again: each worker imports torch.
    assert outcome(of_tensors("spawn"), of_tensors("forkserver"), 0.1, released=False) != "FAIL"


class Meddles(Busy):
    """Changes what its process shares with nobody, or should not."""

    def __getitem__(self, index):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.manual_seed(0)
        torch.set_num_threads(2)
        return super().__getitem__(index)


@pytest.mark.slow
def test_workers_that_pin_themselves_and_seed_globally_change_nothing_here():
    torch.manual_seed(1)
    cpus, threads = psutil.Process().cpu_affinity(), torch.get_num_threads()
    assert outcome(lambda: of(Meddles()), lambda: of(Meddles()), 0.1) == "PASS"
    assert psutil.Process().cpu_affinity() == cpus
    assert torch.get_num_threads() == threads
    assert torch.initial_seed() == 1


class Counts(Busy):
    def __init__(self):
        super().__init__()
        self.calls = multiprocessing.Value("q", 0)

    def __getitem__(self, index):
        with self.calls.get_lock():
            self.calls.value += 1
        return super().__getitem__(index)


def test_a_lock_that_workers_share_is_free_afterwards():
    dataset = Counts()
    assert outcome(lambda: of(dataset), lambda: of(dataset), 0.1) == "PASS"
    assert dataset.calls.get_lock().acquire(timeout=60)
    dataset.calls.get_lock().release()
    assert dataset.calls.value > 0


class Lines(IterableDataset):
    """Reads a file that was opened before its only worker began, so that both stand at one place in it."""

    def __init__(self, file):
        self.file = file

    def __iter__(self):
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        while line := os.read(self.file.fileno(), 8):
            time.sleep(QUICK)
            yield torch.tensor([int(line)])


@pytest.mark.slow
def test_a_file_that_one_worker_shares_with_us_is_not_read_by_another(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{number:07}\n" for number in range(4000)))
    with path.open("rb") as one, path.open("rb") as other:
        with measure(
            lambda: DataLoader(Lines(one), 4, num_workers=1),
            lambda: DataLoader(Lines(other), 4, num_workers=1),
            budget=0.5,
        ) as run:
            assert run.throughput >= 0.1 * run.against.throughput
            assert not run.rounds.replayed(SIDES)
        read = torch.cat(list(DataLoader(Lines(one), 4, num_workers=1))).flatten()
    assert torch.equal(read, torch.arange(4000))


class Huge(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return torch.empty(1 << 18)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_huge_batches_are_handed_over_as_the_user_asks():
    assert outcome(lambda: of(Huge(), timeout=30), lambda: of(Huge(), pin_memory=True), 0.1) != "FAIL"


@pytest.mark.slow
def test_threads_are_gone_afterwards():
    threads, deadline_s = set(threading.enumerate()), time.monotonic() + 60
    assert outcome(lambda: of(Sharded()), lambda: of(Sharded()), 0.1) == "PASS"
    while (left := set(threading.enumerate()) - threads) and time.monotonic() < deadline_s:
        time.sleep(0.01)  # they end by themselves, the watchdog and those that feed queues
    assert left == set()


@pytest.fixture
def uncollected():
    """No cycle of references is freed unless somebody asks for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


class Raises(Busy):
    def __getitem__(self, index):
        if index == 800:
            raise ValueError("no such sample")
        return torch.zeros(8)


def living(processes):
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def raised_by_a_worker():
    """The processes of a loader that raised, which a cycle of its traceback still holds."""
    before = set(psutil.Process().children())
    with measure(lambda: of(Raises()), budget=0.2) as run:
        with pytest.raises(ValueError, match="no such sample") as caught:
            run.look_until(600)
        held = caught.value  # which holds this frame, which holds it
        assert "raised by the loader while it was measured" in held.__notes__
        workers = set(psutil.Process().children()) - before
    return living(workers)


@pytest.mark.slow
@pytest.mark.usefixtures("uncollected")
def test_the_workers_of_a_loader_that_raised_end_before_another_is_measured():
    workers, seen = raised_by_a_worker(), []
    assert workers

    def make():
        seen.append(living(workers))
        return of(Busy())

    with measure(make, budget=0.2):
        assert seen[0] == []


class InACycle:
    """Its iterators hold themselves."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        iterator = iter(self.loader)
        iterator.itself = iterator
        return iterator


@pytest.mark.slow
@pytest.mark.usefixtures("uncollected")
def test_workers_that_a_cycle_holds_end_with_the_run():
    before = set(psutil.Process().children())
    with measure(lambda: InACycle(of(Busy())), budget=0.2):
        workers = living(set(psutil.Process().children()) - before)
    assert workers
    assert living(workers) == []
