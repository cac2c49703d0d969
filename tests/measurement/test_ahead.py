"""Who works for a loader that does not say so, and is no new thread or process."""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from pytest_loaderperf.measurement import ahead
from pytest_loaderperf.measurement import side as side_module
from pytest_loaderperf.measurement.ahead import Clocks, runs_ahead, torch_threads, works_in_a_pause
from pytest_loaderperf.measurement.standing import Standing

X = torch.zeros(4, 8)
BATCH_S = 0.004


def spin(seconds=BATCH_S):
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass
    return X


def sleep(seconds=BATCH_S):
    time.sleep(seconds)
    return X


def parallel():
    torch.ones(1 << 22).sum()
    return X


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as made:
        list(made.map(sleep, [0.01] * 4))  # its threads are there before any loader
        yield made


@pytest.fixture
def feed():
    """Batches from a process that was there before any loader, which makes one in 20 ms, and up to eight ahead."""
    queue = multiprocessing.Queue(8)
    process = multiprocessing.Process(target=feeding, args=(queue,), daemon=True)
    process.start()
    queue.get()
    yield queue
    process.kill()
    process.join()
    queue.cancel_join_thread()


def feeding(queue):
    while True:
        queue.put(0)
        time.sleep(0.02)


def test_a_pool_that_was_there_before_is_noticed(side, pool):
    def reads_ahead():
        yield X
        ahead = deque(pool.submit(spin) for _ in range(4))
        for _ in range(2000):
            ahead.append(pool.submit(spin))
            yield ahead.popleft().result()

    for _ in range(50):  # beside busy processes the pool waits for a core, or has all ready at the start
        measured = side(reads_ahead)
        inline_at_first = measured.inline
        Standing.probed(measured)
        if (inline_at_first, measured.inline) == (True, False):
            break
    assert (inline_at_first, measured.inline) == (True, False)
    assert measured.warmup_batches == 16


def test_a_pool_that_soon_has_all_of_an_epoch_ready_is_noticed_at_its_start(side, pool):
    def all_at_once():  # for a second or more, as they take turns at the interpreter
        ahead = [pool.submit(spin) for _ in range(400)]
        return (each.result() for each in ahead)

    assert not side(all_at_once).inline


def test_a_pool_that_works_when_it_is_asked_does_not_work_ahead(side, pool):
    assert side(lambda: (pool.submit(spin).result() for _ in range(2000))).inline


def test_who_begins_to_work_later_is_not_taken_for_torchs(side, pool):
    torchs, enough = torch_threads(), threading.Event()

    def works():
        while not enough.is_set():
            pass

    working = pool.submit(works)
    assert torch_threads() == torchs
    assert any(works_in_a_pause() for _ in range(500))  # beside busy processes it waits for a core
    enough.set()
    working.result()
    assert not works_in_a_pause()


def test_torchs_own_threads_do_not_work_ahead(side):
    for _ in range(50):  # beside busy processes some may not get a core while they are searched
        if len(torch_threads()) == torch.get_num_threads():
            break
        ahead._torchs.clear()
    for _ in range(5):
        parallel()
        assert not works_in_a_pause()


def test_a_thread_that_works_meanwhile_is_not_taken_for_torchs(pool):
    ahead._torchs.clear()
    working = pool.submit(spin, 0.3)
    parallel()
    found = torch_threads()
    working.result()
    spinning = {thread.native_id for thread in pool._threads}
    assert not found & spinning
    assert threading.get_native_id() in found
    ahead._torchs.clear()


@pytest.mark.parametrize("spun_ms", [[4], [3, 1], [2, 1, 1, 1], [1, 1, 1, 1, 0]])
def test_a_thread_that_still_spins_for_torch_on_a_busy_machine_is_not_one_that_works_unasked(monkeypatch, spun_ms):
    cpu_ns, spun_ns, pauses = {7: 0, 8: 0}, iter([1_000_000 * ms for ms in spun_ms]), []

    def sleep(_):
        pauses.append(1)
        cpu_ns[7] += next(spun_ns, 0)
        cpu_ns[8] += 1_000_000

    monkeypatch.setattr(ahead, "thread_cpu_ns", lambda: dict(cpu_ns))
    monkeypatch.setattr(ahead.time, "sleep", sleep)
    assert ahead._busy_unasked() == {8}
    assert len(pauses) == 5


def test_another_thread_that_asks_has_torchs_threads_of_its_own(pool):
    mine = torch_threads()
    others = pool.submit(torch_threads).result()
    assert threading.get_native_id() in mine - others
    ahead._torchs.clear()


def test_torchs_threads_are_looked_for_again_only_where_one_has_ended(monkeypatch):
    found = torch_threads()
    monkeypatch.setattr(ahead, "_look_for_torchs", lambda threads: frozenset({-1}))
    assert torch_threads() == found
    monkeypatch.setattr(ahead, "thread_ids", frozenset)
    assert torch_threads() == {-1}
    ahead._torchs.clear()


def test_torchs_threads_are_not_waited_for_where_the_system_tells_of_no_thread(monkeypatch):
    monkeypatch.setattr(ahead, "thread_cpu_ns", dict)
    monkeypatch.setattr(ahead, "_LONGEST_PARALLEL_SECONDS", math.inf)
    assert ahead._look_for_torchs(2) == {threading.get_native_id()}


def test_a_process_that_was_there_before_is_noticed_by_what_is_ready_after_a_pause(side, feed):
    def fed():
        for _ in range(2000):
            feed.get()
            yield X

    measured = side(fed)
    assert measured.inline
    measured.take(10)  # what was ready
    assert any(runs_ahead(measured, 0.02) for _ in range(20))  # beside busy processes it may wait for a core


ME, TORCHS, HELPER = 1, 2, 3


class Simulated:
    """A process by a clock of its own: who uses CPU time while batches are made, and who while the consumer sleeps."""

    def __init__(self, in_batches, in_pauses, ready):
        self.in_batches, self.in_pauses, self.ready = in_batches, in_pauses, ready
        self.now_ns, self.cpu_ns, self.slept_s = 0, dict.fromkeys((ME, TORCHS, HELPER), 0), 0.0

    def perf_counter(self):
        return self.now_ns * 1e-9

    def passes(self, seconds, threads):
        self.now_ns += round(seconds * 1e9)
        for thread in threads:
            self.cpu_ns[thread] += round(seconds * 1e9)

    def sleep(self, seconds):
        self.slept_s += seconds
        self.passes(seconds, self.in_pauses)

    def more_in_epoch(self, batches):
        return True

    def take(self, batches):
        took_s = BATCH_S / 100 if self.ready and self.slept_s >= BATCH_S else BATCH_S
        self.slept_s = 0.0
        self.passes(took_s, self.in_batches)
        return SimpleNamespace(wall_ns=round(took_s * 1e9))


SIMULATED = {
    "spins": ([ME], [], False, False),
    "sleeps": ([], [], False, False),
    "in torch's threads": ([ME, TORCHS], [], False, False),
    "torch's threads still spin in a pause": ([ME, TORCHS], [TORCHS], False, False),
    "a pool works in pauses": ([], [HELPER], False, True),
    "a pool works when asked, and in pauses": ([HELPER], [HELPER], False, True),
    "ready after each pause": ([], [], True, True),
}


@pytest.mark.parametrize("in_batches, in_pauses, ready, ahead_of_it", SIMULATED.values(), ids=SIMULATED)
def test_a_loader_runs_ahead_where_others_work_in_pauses_or_batches_are_ready_after_them(
    monkeypatch, in_batches, in_pauses, ready, ahead_of_it
):
    process = Simulated(in_batches, in_pauses, ready)
    monkeypatch.setattr(ahead, "time", process)
    monkeypatch.setattr(ahead, "thread_cpu_ns", lambda: dict(process.cpu_ns))
    monkeypatch.setattr(ahead, "torch_threads", lambda: frozenset({ME, TORCHS}))
    monkeypatch.setattr(ahead, "threading", SimpleNamespace(get_native_id=lambda: ME))
    assert runs_ahead(process, BATCH_S) is ahead_of_it


@pytest.mark.parametrize("runs", [False, True])
def test_a_loader_that_waits_for_its_batches_is_inline_unless_it_runs_ahead(side, monkeypatch, runs):
    monkeypatch.setattr(side_module, "works_in_a_pause", lambda: False)
    monkeypatch.setattr(side_module, "runs_ahead", lambda measured, batch_seconds: runs)
    measured = side(lambda: (sleep() for _ in range(200)))
    Standing.probed(measured)
    assert measured.inline is not runs


def test_whether_a_side_runs_ahead_is_found_out_once(side, monkeypatch):
    asked = []
    monkeypatch.setattr(side_module, "runs_ahead", lambda measured, batch_seconds: asked.append(batch_seconds))
    measured = side(lambda: [X] * 3)
    for batch_s in (1.0, 2.0):
        measured.look_ahead(batch_s)
    assert asked == [1.0]


@pytest.mark.parametrize("quick_from_s, ahead_of_it", [(0.0005, False), (0.01, True)])
def test_a_loader_that_is_quick_after_any_pause_only_has_a_core_at_once(monkeypatch, quick_from_s, ahead_of_it):
    """On a busy machine; one that works ahead is quick only after a pause in which it can have made something."""
    now_s, slept_s = [0.0], [0.0]

    def pause(seconds):
        now_s[0] += seconds
        slept_s[0] = seconds

    def take(batches):
        taken_s, slept_s[0] = (0.0001 if slept_s[0] >= quick_from_s else 0.02), 0.0
        now_s[0] += taken_s
        return SimpleNamespace(wall_ns=int(taken_s * 1e9))

    clock = SimpleNamespace(sleep=pause, perf_counter=lambda: now_s[0])
    monkeypatch.setattr(ahead, "time", clock)
    monkeypatch.setattr(ahead, "thread_cpu_ns", dict)
    side = SimpleNamespace(take=take, more_in_epoch=lambda batches: True)
    assert runs_ahead(side, 0.02) is ahead_of_it


@pytest.mark.parametrize("batch_s, in_epoch, taken", [(0.02, 99, 8), (0.0011, 99, 10), (0.02, 5, 5)])
def test_eight_batches_and_ten_milliseconds_come_without_a_pause_or_what_is_left(monkeypatch, batch_s, in_epoch, taken):
    now_s, takes, before_pauses = [0.0], [], []

    def pause(seconds):
        now_s[0] += seconds
        before_pauses.append(len(takes))

    def take(batches):
        now_s[0] += batch_s
        takes.append(batches)
        return SimpleNamespace(wall_ns=int(batch_s * 1e9))

    monkeypatch.setattr(ahead, "time", SimpleNamespace(sleep=pause, perf_counter=lambda: now_s[0]))
    monkeypatch.setattr(ahead, "thread_cpu_ns", dict)
    monkeypatch.setattr(ahead, "torch_threads", frozenset)
    side = SimpleNamespace(take=take, more_in_epoch=lambda batches: len(takes) + batches <= in_epoch)
    assert not runs_ahead(side, batch_s)
    assert before_pauses[:2] == [0, taken]


def test_an_epoch_that_ends_meanwhile_tells_nothing(side):
    measured = side(lambda: [X] * 3)
    assert not runs_ahead(measured, 1e-5)


def test_a_batch_of_a_second_is_not_waited_for(side):
    assert not runs_ahead(side(lambda: [X] * 3), 1.0)


@pytest.mark.parametrize("work, own", [(spin, True), (sleep, False)])
def test_who_runs_is_told_from_who_waits(work, own):
    clocks = Clocks()
    work(0.05)
    assert (clocks.shares()[0] > 0.05) is own
    assert clocks.suspicious or own


@pytest.mark.parametrize(
    "own, others, suspicious", [(0.9, 0.05, False), (0.6, 0.05, False), (0.9, 0.2, True), (0.4, 0.05, True)]
)
def test_who_works_little_itself_or_beside_others_may_be_given_batches(monkeypatch, own, others, suspicious):
    monkeypatch.setattr(Clocks, "shares", lambda clocks: (own, others))
    assert Clocks().suspicious is suspicious
