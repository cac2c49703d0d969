"""The watchdog interrupts what makes no progress, once, and nothing else."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from pytest_loaderperf.errors import LoaderHangError
from pytest_loaderperf.measurement import watchdog as module
from pytest_loaderperf.measurement.watchdog import Watchdog


def refuse_to_end_the_process(report):
    """End the watchdog's thread instead: this process runs the other tests."""
    raise SystemExit


@pytest.fixture
def watchdog():
    made = Watchdog(0.3, refuse_to_end_the_process)
    yield made
    made.close()
    made.close()


def test_a_stage_that_hangs_is_ended_and_every_thread_shown(watchdog):
    may_end = threading.Event()
    helper = threading.Thread(target=may_end.wait, name="my-helper")
    helper.start()
    try:
        with pytest.raises(LoaderHangError) as error, watchdog.stage("reading a shard"):
            time.sleep(3)
    finally:
        may_end.set()
        helper.join()
    assert str(error.value).startswith(
        "the loader hangs: got nothing for 0.3 s in stage 'reading a shard'. Expected a batch, an end or an error. "
        "Fix the loader, or set loaderperf_timeout (seconds) higher.\nthread 'MainThread' stands at (innermost last):"
    )
    assert "time.sleep(3)" in str(error.value)
    assert "thread 'my-helper' stands at (innermost last):" in str(error.value)


def test_it_says_after_how_many_batches(watchdog):
    with pytest.raises(LoaderHangError, match="in stage 'epoch' after 3 batches"), watchdog.stage("epoch", [1, 2, 3]):
        time.sleep(3)


def test_a_stage_that_makes_progress_may_take_longer(watchdog):
    batches = []
    with watchdog.stage("epoch", batches):
        for i in range(12):
            batches.append(i)
            time.sleep(0.1)
    assert len(batches) == 12  # no interrupt came between


def test_time_between_stages_does_not_count(watchdog):
    with watchdog.stage("short"):
        pass
    began_s = time.monotonic()
    time.sleep(0.6)
    assert time.monotonic() - began_s >= 0.6  # slept to the end: no interrupt came
    with pytest.raises(LoaderHangError, match="after it"), watchdog.stage("after it"):
        time.sleep(3)


def test_it_works_again_after_a_hang(watchdog):
    for name in "first", "second":
        with pytest.raises(LoaderHangError, match=name), watchdog.stage(name):
            time.sleep(3)


def test_the_users_own_interrupt_passes(watchdog):
    with pytest.raises(KeyboardInterrupt), watchdog.stage("epoch"):
        signal.raise_signal(signal.SIGINT)


def test_the_users_interrupt_that_a_finaliser_swallows_is_raised_at_the_end_of_the_stage(watchdog):
    class Deaf:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    deaf = [Deaf()]
    with pytest.raises(KeyboardInterrupt), watchdog.stage("release"):
        deaf.clear()


def test_who_does_not_heed_the_interrupt_is_abandoned_with_the_report_and_ended(monkeypatch):
    reports, statuses = [], []

    def abandon(report):
        reports.append(report)
        made.close()

    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(module.os, "_exit", statuses.append)

    def work():
        deadline_s = time.monotonic() + 60
        while not statuses and time.monotonic() < deadline_s:
            time.sleep(0.01)

    made, heeds = Watchdog(0.1, abandon), signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with pytest.raises(LoaderHangError) as error, made.stage("native code"):
            work()
    finally:
        signal.signal(signal.SIGINT, heeds)
        made.close()
    assert reports == [str(error.value)]
    assert statuses == [70]


def test_where_the_connection_to_a_worker_broke_its_death_is_awaited(watchdog, monkeypatch):
    monkeypatch.setattr(module, "_DEATH_SECONDS", 0.05)
    began_s = time.monotonic()
    with pytest.raises(ConnectionResetError), watchdog.stage("epoch"):
        raise ConnectionResetError
    assert time.monotonic() - began_s >= 0.05


def test_an_error_of_the_loader_passes(watchdog):
    with pytest.raises(OSError, match="disk gone"), watchdog.stage("epoch"):
        raise OSError("disk gone")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hang_whose_interrupt_is_swallowed_is_reported_all_the_same(watchdog):
    class Deaf:
        def __del__(self):
            time.sleep(3)

    deaf = [Deaf()]
    with pytest.raises(LoaderHangError, match="in stage 'release'"), watchdog.stage("release"):
        deaf.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_interrupt_is_not_blamed_on_the_next_stage(watchdog):
    class Deaf:
        def __del__(self):
            time.sleep(3)

    deaf = [Deaf()]
    with suppress(LoaderHangError), watchdog.stage("release"):
        deaf.clear()
    with pytest.raises(KeyboardInterrupt), watchdog.stage("next"):
        signal.raise_signal(signal.SIGINT)


def test_closing_ends_its_thread():
    before = set(threading.enumerate())
    made = Watchdog(5, refuse_to_end_the_process)
    with made.stage("short"):
        [thread] = set(threading.enumerate()) - before
    made.close()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_hang_on_another_thread_is_reported_on_stderr(watchdog, capfd):
    def hang():
        with watchdog.stage("elsewhere"):
            time.sleep(0.8)

    thread = threading.Thread(target=hang)
    thread.start()
    thread.join()
    shown = capfd.readouterr().err
    assert "in stage 'elsewhere'" in shown
    assert "This stage is not on the main thread, so it cannot be interrupted." in shown
