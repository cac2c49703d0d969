from __future__ import annotations

import threading
import time
import weakref
from functools import partial
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data import PersistentExecutor
from pytest_loaderperf.data.execution.worth import Worth
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.loader.prefetch import Prefetcher

TIMEOUT_S = 10


class Alone(Worth):
    """Threads are never worth it."""

    def __init__(self):
        super().__init__()
        self.hands_over = False


def prefetched(tasks, executor, *, ahead, helps, **arguments):
    worth = {"no": None, False: None, "yes": Worth(), True: Worth(), "alone": Alone()}[helps]
    return Prefetcher(tasks, executor, ahead=lambda: ahead, worth=worth, **arguments)


@pytest.fixture(params=[False, True], ids=["waits", "helps"])
def helps(request):
    return request.param


@pytest.fixture
def executor():
    with PersistentExecutor(4) as made:
        yield made


@given(
    tasks=st.integers(0, 30),
    workers=st.integers(1, 4),
    ahead=st.integers(0, 8),
    helps=st.sampled_from(["no", "yes", "alone"]),
    slow=st.sets(st.integers(0, 30), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_each_task_runs_once_and_results_come_in_order(tasks, workers, ahead, helps, slow):
    ran: list[int] = []

    def work(i: int) -> int:
        if i in slow:
            time.sleep(0.001)
        ran.append(i)
        return i

    with PersistentExecutor(workers) as executor:
        results = prefetched(
            (partial(work, i) for i in range(tasks)), executor, workers=workers, ahead=ahead, helps=helps
        )
        assert list(results) == list(range(tasks))
    assert sorted(ran) == list(range(tasks))


def test_where_threads_are_not_worth_it_the_consumer_runs_each_task_when_it_is_due(executor):
    ran = []
    tasks = (partial(lambda i: ran.append((i, threading.get_ident())), i) for i in range(6))
    results = prefetched(tasks, executor, workers=2, ahead=4, helps="alone")
    for number, _ in enumerate(results, 1):
        assert len(ran) == number
    assert ran == [(i, threading.get_ident()) for i in range(6)]


def test_no_more_than_ahead_tasks_start_before_they_are_due(executor, helps):
    ahead, begun = 3, []

    def tasks():
        for i in range(20):
            begun.append(i)
            yield partial(int, i)

    for i in prefetched(tasks(), executor, workers=2, ahead=ahead, helps=helps):
        assert len(begun) <= i + 1 + ahead


def test_nothing_starts_before_the_first_result_is_asked_for(executor, helps):
    begun = []
    results = prefetched(iter([partial(begun.append, 1)]), executor, workers=1, ahead=2, helps=helps)
    assert begun == []
    assert list(results) == [None]
    assert begun == [1]


def test_without_help_only_the_given_number_of_threads_run_tasks(executor):
    threads, lock, at_once = set(), threading.Lock(), []
    running = 0

    def work() -> None:
        nonlocal running
        with lock:
            running += 1
            at_once.append(running)
            threads.add(threading.get_ident())
        time.sleep(0.001)
        with lock:
            running -= 1

    list(prefetched((work for _ in range(60)), executor, workers=2, ahead=8, helps=False))
    assert max(at_once) <= 2
    assert threading.get_ident() not in threads


def test_with_help_the_consumer_runs_tasks_that_no_thread_has_begun(executor):
    begun, finish = threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert finish.wait(TIMEOUT_S)
        return threading.get_ident()

    def later() -> int:
        assert begun.wait(TIMEOUT_S)
        finish.set()
        return threading.get_ident()

    who = list(prefetched(iter([first, later]), executor, workers=1, ahead=2, helps=True))
    assert who[0] != who[1] == threading.get_ident()


@pytest.mark.parametrize("bad", [0, 3, 9])
def test_the_exception_of_a_task_comes_at_its_place_in_the_order(executor, helps, bad):
    def work(i: int) -> int:
        if i == bad:
            raise KeyError(i)
        return i

    came = []
    with pytest.raises(KeyError, match=str(bad)):
        came.extend(prefetched((partial(work, i) for i in range(10)), executor, workers=2, ahead=3, helps=helps))
    assert came == list(range(bad))


def test_an_exception_of_the_task_source_reaches_the_consumer(executor, helps):
    def tasks():
        yield int
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(prefetched(tasks(), executor, workers=1, ahead=0, helps=helps))


def test_closing_early_drops_what_waits_and_awaits_what_runs(executor, helps):
    began, ended = [], []
    started = threading.Event()

    def work(i: int) -> int:
        began.append(i)
        if i:
            started.set()
            time.sleep(0.05)
        ended.append(i)
        return i

    results = prefetched((partial(work, i) for i in range(20)), executor, workers=1, ahead=8, helps=helps)
    next(results)
    assert started.wait(TIMEOUT_S)
    results.close()
    assert sorted(began) == sorted(ended)
    seen = len(began)
    executor.submit(int).result()
    time.sleep(0.06)
    assert len(began) == seen < 9


def test_closing_twice_and_closing_before_the_start_are_no_errors(executor, helps):
    begun = []
    results = prefetched(iter([partial(begun.append, 1)]), executor, workers=1, ahead=1, helps=helps)
    results.close()
    results.close()
    assert begun == []


@pytest.mark.parametrize("ending", ["close", "next"])
def test_a_closed_executor_never_leaves_the_consumer_waiting(ending):
    executor = PersistentExecutor(1)
    # Two pumps for one thread: the second waits in the executor's queue, and close() drops it from there.
    results = prefetched((partial(time.sleep, 0.01) for _ in range(20)), executor, workers=2, ahead=4, helps=False)
    next(results)
    executor.close()

    def finish() -> None:
        if ending == "close":
            results.close()
        else:
            with pytest.raises(Exception, match=r"executor (is|was) closed"):
                list(results)

    consumer = threading.Thread(target=finish, daemon=True)
    consumer.start()
    consumer.join(3)
    assert not consumer.is_alive()


def test_two_consumers_share_an_executor_of_one_thread(helps):
    with PersistentExecutor(1) as executor:
        both = [
            prefetched((partial(int, i) for i in range(10)), executor, workers=1, ahead=2, helps=helps)
            for _ in range(2)
        ]
        assert list(zip(*both, strict=True)) == [(i, i) for i in range(10)]


def test_tasks_that_the_consumer_ran_are_let_go_though_no_thread_came_for_them():
    ahead, alive = 2, weakref.WeakSet()

    class Work:
        def __call__(self) -> int:
            return len(alive)

    def tasks():
        for _ in range(100):
            work = Work()
            alive.add(work)
            yield work
            del work

    busy = threading.Event()
    with PersistentExecutor(1) as executor:
        executor.submit(busy.wait, TIMEOUT_S)
        results = prefetched(tasks(), executor, workers=1, ahead=ahead, helps=True)
        most = max(islice(results, 90))
        busy.set()
        results.close()
    assert most <= ahead + 2


def test_a_consumer_that_ran_every_task_ends_without_waiting_for_a_busy_executor():
    busy = threading.Event()
    with PersistentExecutor(1) as executor:
        executor.submit(busy.wait, TIMEOUT_S)
        results = prefetched(iter([int] * 10), executor, workers=1, ahead=2, helps=True)
        consumer = threading.Thread(target=list, args=[results], daemon=True)
        consumer.start()
        consumer.join(3)
        ended = not consumer.is_alive()
        busy.set()
    assert ended


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_the_consumer_helps_comes_out_at_once_and_nothing_is_lost(interrupt):
    began, finish = threading.Event(), threading.Event()
    here, interrupts = threading.get_ident(), [interrupt]

    def work(i: int) -> int:
        if i == 0:
            began.set()
            assert finish.wait(TIMEOUT_S)
        elif threading.get_ident() == here:
            assert began.wait(TIMEOUT_S)
            if interrupts:
                raise interrupts.pop()
            finish.set()
        return i

    with PersistentExecutor(1) as executor:
        results = prefetched((partial(work, i) for i in range(6)), executor, workers=1, ahead=3, helps=True)
        with pytest.raises(interrupt):
            next(results)
        assert list(results) == list(range(6))


@pytest.mark.parametrize("acquired", [False, True], ids=["before the end", "at the end"])
def test_an_interrupt_while_the_consumer_waits_loses_nothing(executor, acquired):
    may_end = threading.Event()
    tasks = (partial(lambda i: (not i or may_end.wait(TIMEOUT_S)) and i, i) for i in range(4))
    results = prefetched(tasks, executor, workers=1, ahead=1, helps=False)
    assert next(results) == 0
    ended = results._pending[0]._ended

    class Interrupted:
        def acquire(self, timeout):
            if acquired:
                may_end.set()
                ended.acquire()
            raise KeyboardInterrupt

        def release(self):
            ended.release()

    results._pending[0]._ended = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    results._pending[0]._ended = ended
    may_end.set()
    assert list(results) == [1, 2, 3]


def test_an_interrupt_when_the_consumer_has_just_claimed_a_task_leaves_it_to_be_run(executor):
    claimed = []

    class Interrupted(list):
        def append(self, who):
            super().append(who)
            if threading.current_thread() is threading.main_thread() and not claimed:
                claimed.append(who)
                raise KeyboardInterrupt

    began = threading.Event()
    tasks = [began.wait, partial(int, 1), partial(int, 2)]
    results = prefetched(iter(tasks), executor, workers=1, ahead=2, helps=True)
    results._begin()
    results._pending[1]._claims = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    began.set()
    assert list(results) == [True, 1, 2]
    assert claimed


def test_after_a_timeout_the_same_result_can_be_asked_for_again(executor):
    finish = threading.Event()

    def slow() -> int:
        assert finish.wait(TIMEOUT_S)
        return 1

    results = prefetched(iter([slow, int]), executor, workers=1, ahead=1, helps=False, timeout_s=0.05)
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.05 seconds"):
        next(results)
    finish.set()
    assert list(results) == [1, 0]


def test_closing_waits_no_longer_than_the_timeout_for_a_task_that_hangs():
    hangs = threading.Event()
    executor = PersistentExecutor(1)
    results = prefetched(iter([partial(hangs.wait, 60)]), executor, workers=1, ahead=0, helps=False, timeout_s=0.05)
    with pytest.raises(RuntimeError, match="timed out"):
        next(results)
    began_s = time.monotonic()
    assert results.close() is False
    executor.close(wait=False)
    assert time.monotonic() - began_s < TIMEOUT_S
    hangs.set()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_consumer_that_goes_on_after_its_executor_was_closed_gets_the_error_and_does_not_wait(workers, helps):
    executor = PersistentExecutor(1)
    results = prefetched(
        (partial(int, i) for i in range(9)), executor, workers=workers, ahead=2, helps=helps, timeout_s=TIMEOUT_S
    )
    assert next(results) == 0
    executor.close()
    for _ in range(4):
        try:
            next(results)
        except StopIteration:
            break
        except LoaderPerfError as error:
            assert "closed" in str(error)  # noqa: PT017 either a result of the consumer's own or this error
    results.close()


def test_an_interrupt_in_a_task_that_the_consumer_runs_alone_leaves_it_to_be_run(executor):
    tries = []

    def work():
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt
        return "done"

    def fails():
        raise ValueError("once")

    results = prefetched(iter([work, fails, int]), executor, workers=1, ahead=2, helps="alone")
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert next(results) == "done"
    with pytest.raises(ValueError, match="once"):
        next(results)
    assert list(results) == [0]


def test_a_thread_that_collects_an_iteration_when_its_tasks_are_done_does_not_wait_for_itself():
    """Garbage collection may run as the thread sets a future's result, when no task runs but the future does."""
    closed = []
    taken, ended = threading.Event(), threading.Event()
    with PersistentExecutor(1) as executor:
        results = Prefetcher(iter([lambda: 1]), executor, workers=1, ahead=lambda: 1)
        pump = results._pumps._pump

        def pump_and_collect():
            pump()
            taken.wait(timeout=30)
            closed.append(results.close())
            ended.set()

        results._pumps._pump = pump_and_collect
        assert next(results) == 1
        taken.set()
        assert ended.wait(timeout=30)
    assert closed == [False]


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_an_interrupt_while_a_task_is_handed_to_a_thread_leaves_it_to_be_run(executor, monkeypatch, begun):
    submit, calls = executor.submit, []

    def interrupted(function):
        calls.append(function)
        if len(calls) == begun + 1:
            raise KeyboardInterrupt
        return submit(function)

    monkeypatch.setattr(executor, "submit", interrupted)
    results = prefetched((partial(time.sleep, 0.01) for _ in range(8)), executor, workers=3, ahead=4, helps=False)
    came = []
    with pytest.raises(KeyboardInterrupt):
        came.extend(results)
    assert len(came) + len(list(results)) == 8
