"""Loaders whose workers misbehave, or do not do what they seem to: a clear error in time, and never a wrong verdict."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

from pytest_loaderperf import measure

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
            if index == 400 and self.strike is not None:
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
        "*the loader hangs: nothing came for 1 s in stage 'loader: waiting for a batch'*",
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


class Busy(Dataset):
    """Each sample takes ``seconds``, by ``wait``."""

    def __init__(self, seconds=0.0005, wait=time.sleep):
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


def outcome(loader, against, needed, budget=1.5):
    """What the claim that ``loader`` is ``needed`` times as quick as ``against`` comes to."""
    with measure(loader, against, budget=budget, max_budget=budget) as run:
        return str((run.throughput >= needed * run.against.throughput).ruling.outcome)


class Twice(DataLoader):
    def __iter__(self):
        for batch in super().__iter__():
            yield batch
            yield batch


class EverySecond(DataLoader):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number % 2:
                yield batch


class IgnoresItsDataset(DataLoader):
    def _get_iterator(self):
        return iter([torch.zeros(4, 8)] * 1000)


def test_a_loader_that_gives_each_batch_twice_is_as_quick_as_it_is():
    assert outcome(lambda: Twice(Busy(), 4, num_workers=2), lambda: of(Busy()), 1.2) != "FAIL"
    assert outcome(lambda: of(Busy()), lambda: Twice(Busy(), 4, num_workers=2), 0.97) != "PASS"


def test_a_loader_that_drops_every_second_batch_is_as_slow_as_it_is():
    assert outcome(lambda: EverySecond(Busy(), 4, num_workers=2), lambda: of(Busy()), 0.97) != "PASS"


def test_a_loader_that_does_not_read_its_dataset_is_not_judged_by_it():
    assert outcome(lambda: IgnoresItsDataset(Busy(0.01), 4, num_workers=2), lambda: of(Busy()), 0.97) == "PASS"


class Sharded(IterableDataset):
    """Each worker reads a part of its own, and one of them may be dear."""

    def __init__(self, dear=1):
        self.dear = dear

    def __iter__(self):
        worker = get_worker_info().id
        for index in range(4000):
            time.sleep(0.0005 * (self.dear if worker == 1 else 1))
            yield torch.full((8,), float(index))


def test_a_shard_that_became_dear_does_not_pass_whichever_worker_reads_it():
    assert outcome(lambda: of(Sharded(dear=3)), lambda: of(Sharded()), 0.97) != "PASS"


@pytest.mark.parametrize("wait", [time.sleep, burn])
def test_workers_that_sleep_or_burn_are_told_apart_from_slower_ones(wait):
    assert outcome(lambda: of(Busy(wait=wait)), lambda: of(Busy(wait=wait)), 0.8) != "FAIL"
    assert outcome(lambda: of(Busy(0.001, wait)), lambda: of(Busy(wait=wait)), 0.97) != "PASS"


class Wrapper:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


def wrapped(seconds):
    return lambda: Wrapper(Wrapper(Wrapper(of(Busy(seconds)))))


def test_wrappers_of_wrappers_are_measured_as_they_are():
    assert outcome(wrapped(0.0005), lambda: of(Busy()), 0.6) != "FAIL"
    assert outcome(wrapped(0.001), lambda: of(Busy()), 0.97) != "PASS"


class Nested(Busy):
    """Its workers start threads of their own."""

    def __init__(self, seconds=0.002):
        super().__init__(seconds)
        self.pool = None

    def __getitem__(self, index):
        if self.pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self.pool = ThreadPoolExecutor(2)
        return self.pool.submit(super().__getitem__, index).result()


def test_workers_with_threads_of_their_own_are_measured_by_the_clock():
    assert outcome(lambda: of(Nested()), lambda: of(Nested()), 0.6) != "FAIL"
    with measure(lambda: of(Nested()), lambda: of(Nested()), budget=0.1) as run:
        assert not run.rounds.replayed(["loader", "against"])


class NestedProcesses(Busy):
    def __getitem__(self, index):
        next(iter(of(Busy())))  # daemonic processes cannot have children
        return super().__getitem__(index)


def test_workers_that_start_workers_get_the_interpreters_own_words():
    with pytest.raises(AssertionError, match="daemonic processes are not allowed to have children"):
        outcome(lambda: of(NestedProcesses()), lambda: of(Busy()), 0.97)


def of_tensors(method):
    return lambda: DataLoader(
        TensorDataset(torch.zeros(4000, 64)), 16, num_workers=2, multiprocessing_context=method, persistent_workers=True
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_start_method_of_the_users_own_is_measured(method):
    assert outcome(of_tensors(method), of_tensors(method), 0.1, budget=2) != "FAIL"


class Meddles(Busy):
    """Changes what its process shares with nobody, or should not."""

    def __getitem__(self, index):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.manual_seed(0)
        torch.set_num_threads(2)
        return super().__getitem__(index)


def test_workers_that_pin_themselves_and_seed_globally_change_nothing_here():
    torch.manual_seed(1)
    drawn, cpus, threads = torch.get_rng_state(), psutil.Process().cpu_affinity(), torch.get_num_threads()
    assert outcome(lambda: of(Meddles()), lambda: of(Meddles()), 0.6) != "FAIL"
    assert psutil.Process().cpu_affinity() == cpus
    assert torch.get_num_threads() == threads
    assert drawn.shape == torch.get_rng_state().shape


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
    assert outcome(lambda: of(dataset), lambda: of(dataset), 0.6) != "FAIL"
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
            time.sleep(0.0002)
            yield torch.tensor([int(line)])


def test_a_file_that_one_worker_shares_with_us_is_not_read_by_another(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{number:07}\n" for number in range(4000)))
    with path.open("rb") as one, path.open("rb") as other:
        with measure(
            lambda: DataLoader(Lines(one), 4, num_workers=1),
            lambda: DataLoader(Lines(other), 4, num_workers=1),
            budget=1,
        ) as run:
            assert str((run.throughput >= 0.5 * run.against.throughput).ruling.outcome) != "FAIL"
            assert not run.rounds.replayed(["loader", "against"])
        read = torch.cat(list(DataLoader(Lines(one), 4, num_workers=1))).flatten()
    assert torch.equal(read, torch.arange(4000))


class Huge(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return torch.empty(1 << 20)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.parametrize("named", [{}, {"timeout": 30}, {"pin_memory": True}], ids=["huge", "timeout", "pinned"])
def test_batches_are_handed_over_as_the_user_asks(named):
    assert outcome(lambda: of(Huge(), **named), lambda: of(Huge(), **named), 0.5) != "FAIL"


def test_other_threads_and_processes_are_gone_afterwards():
    threads, children = threading.active_count(), psutil.Process().children(recursive=True)
    assert outcome(lambda: of(Sharded()), lambda: of(Sharded()), 0.5, budget=0.5) != "FAIL"
    begun = set(psutil.Process().children(recursive=True)) - set(children)
    assert psutil.wait_procs(begun, timeout=60)[1] == []
    assert threading.active_count() <= threads + 1  # the watchdog ends by itself
