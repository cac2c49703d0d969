from __future__ import annotations

import pickle
import threading
import time

import pytest

from pytest_loaderperf.data import PersistentExecutor
from pytest_loaderperf.data.execution import executor as module
from pytest_loaderperf.errors import LoaderPerfError

CLOSED = "this executor is closed. Make a new PersistentExecutor, or close it later."


@pytest.fixture
def made(monkeypatch):
    """The thread pools that executors make, in order."""
    pools = []

    class CountedPool(module.ThreadPoolExecutor):
        def __init__(self, *args, **kwargs):
            pools.append(self)
            time.sleep(0.05)  # long enough for every racer to see that there is no pool yet
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(module, "ThreadPoolExecutor", CountedPool)
    return pools


def test_no_pool_is_made_before_the_first_use(made):
    with PersistentExecutor(2) as executor:
        assert made == []
        executor.submit(int).result()
        assert len(made) == 1


def test_a_race_of_first_uses_makes_one_pool(made):
    racers = 16
    barrier = threading.Barrier(racers)
    with PersistentExecutor(2) as executor:

        def race() -> None:
            barrier.wait()
            executor.submit(int).result()

        threads = [threading.Thread(target=race) for _ in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 1


def test_its_configuration_is_logged_once(caplog):
    caplog.set_level("INFO", "pytest_loaderperf")
    with PersistentExecutor(3) as executor:
        assert caplog.messages == []
        for _ in range(2):
            executor.submit(int).result()
    assert caplog.messages == ["executor: 3 threads, made on first use, kept until close()"]


def test_its_threads_outlive_the_work_given_to_them():
    with PersistentExecutor(1) as executor:
        assert executor.submit(threading.get_ident).result() == executor.submit(threading.get_ident).result()


def test_it_runs_as_many_tasks_at_once_as_it_has_workers():
    barrier = threading.Barrier(3)
    with PersistentExecutor(3) as executor:
        arrivals = [executor.submit(barrier.wait, 10) for _ in range(3)]
        assert sorted(arrival.result() for arrival in arrivals) == [0, 1, 2]


def test_arguments_reach_the_function_and_its_exception_the_caller():
    with PersistentExecutor(1) as executor:
        assert executor.submit(int, "z", base=36).result() == 35
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()


@pytest.mark.parametrize("cores, workers", [(1, 1), (3, 3), (64, 4)])
def test_by_default_it_has_a_thread_for_each_core_up_to_four(monkeypatch, cores, workers):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    assert PersistentExecutor().max_workers == workers


@pytest.mark.parametrize("used", [False, True])
def test_close_may_be_called_twice_and_refuses_later_work(used):
    executor = PersistentExecutor(1)
    if used:
        executor.submit(int).result()
    executor.close()
    executor.close()
    with pytest.raises(LoaderPerfError) as caught:
        executor.submit(int)
    assert str(caught.value) == CLOSED


def test_close_waits_for_what_runs_and_drops_what_waits():
    executor = PersistentExecutor(1)
    started, finish = threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        finish.wait(10)
        return "done"

    running, waiting = executor.submit(work), executor.submit(int)
    started.wait(10)
    closer = threading.Thread(target=executor.close)
    closer.start()
    for _ in range(1000):
        if waiting.cancelled():
            break
        closer.join(0.01)
    assert waiting.cancelled()
    assert closer.is_alive()
    finish.set()
    closer.join(10)
    assert running.result(0) == "done"


def test_leaving_the_with_block_ends_the_threads():
    with PersistentExecutor(1) as executor:
        thread = executor.submit(threading.current_thread).result()
    assert not thread.is_alive()


@pytest.mark.parametrize("closed", [False, True])
def test_a_pickled_executor_comes_back_with_its_size_and_a_pool_of_its_own(closed):
    with PersistentExecutor(3) as executor:
        executor.submit(int).result()
        if closed:
            executor.close()
        with pickle.loads(pickle.dumps(executor)) as copy:  # noqa: S301 made here
            assert copy.max_workers == 3
            assert copy.submit(int, "5").result() == 5


@pytest.mark.parametrize("workers", [0, -1, 2.0, "2", True])
def test_a_size_that_is_not_a_positive_whole_number_is_refused(workers):
    with pytest.raises(LoaderPerfError) as caught:
        PersistentExecutor(workers)
    assert str(caught.value) == f"max_workers: expected an integer of at least 1 or None, got {workers!r}."


def test_a_copy_is_pickled_while_work_is_running():
    started, finish = threading.Event(), threading.Event()
    with PersistentExecutor(1) as executor:
        executor.submit(lambda: (started.set(), finish.wait(10)))
        started.wait(10)
        with pickle.loads(pickle.dumps(executor)) as copy:  # noqa: S301 made here
            assert copy.submit(int, "5").result(10) == 5
        finish.set()


def test_the_fixture_gives_one_that_is_closed_after_the_test(pytester):
    pytester.makepyfile(
        """
        kept = []

        def test_uses_it(executor):
            assert executor.submit(int, "5").result() == 5
            kept.append(executor)

        def test_finds_it_closed(executor):
            import pytest
            from pytest_loaderperf.errors import LoaderPerfError
            assert executor is not kept[0]
            with pytest.raises(LoaderPerfError, match="this executor is closed"):
                kept[0].submit(int)
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


EXITS = {
    "idle": "executor.submit(int).result()",
    "at work with more to do": "[executor.submit(work) for _ in range(9)]; started.wait()",
    "at work for a daemon thread": (
        "threading.Thread(target=lambda: executor.submit(work).result(), daemon=True).start(); started.wait()"
    ),
    "closed at exit": "import atexit; executor.submit(int).result(); atexit.register(executor.close)",
}


@pytest.mark.parametrize("state", EXITS.values(), ids=EXITS)
def test_the_interpreter_exits_while_the_executor_is(run_code, state):
    script = f"""
import faulthandler, threading, time
from pytest_loaderperf.data import PersistentExecutor
faulthandler.dump_traceback_later(30, exit=True)
started = threading.Event()
def work():
    started.set()
    time.sleep(0.05)
executor = PersistentExecutor(2)
{state}
"""
    done = run_code(script)
    assert (done.returncode, done.stderr) == (0, "")


AFTER_FORK = {
    "works again": "assert executor.submit(int, '5').result() == 5",
    "can be closed": "executor.close(); executor.close()",
    "stays closed once the child closed it": (
        "executor.close()\n"
        "    try:\n"
        "        executor.submit(int)\n"
        "    except LoaderPerfError:\n"
        "        os._exit(0)\n"
        "    os._exit(1)"
    ),
}


@pytest.mark.parametrize("child", AFTER_FORK.values(), ids=AFTER_FORK)
def test_in_a_forked_child_the_executor(run_code, child):
    script = f"""
import os, signal
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.data import PersistentExecutor
executor = PersistentExecutor(2)
executor.submit(int).result()
child = os.fork()
if child == 0:
    signal.alarm(10)
    {child}
    os._exit(0)
assert executor.submit(int, "7").result() == 7
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_code(script).returncode == 0
