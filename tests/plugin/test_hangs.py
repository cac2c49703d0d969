"""A loader that hangs is ended, its stage named, every thread shown; the other tests of the run go on."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.history import Store

HANGING = """
    import threading
    import time

    import pytest
    import torch
    from torch.utils.data import DataLoader, Dataset

    BATCH = torch.zeros(4, 8)

    def sleeps():
        time.sleep(600)

    def waits_for_a_lock():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def spins():
        while True:
            pass

    class Hangs:
        def __init__(self, where, how):
            self.where, self.how = where, how
        def __len__(self):
            return 400
        def __iter__(self):
            if self.where == "iter":
                self.how()
            return self.batches()
        def batches(self):
            try:
                for i in range(400):
                    if (self.where, i) in (("first", 0), ("next", 30)):
                        self.how()
                    yield BATCH
                if self.where == "end":
                    self.how()
            except GeneratorExit:
                if self.where == "release":
                    self.how()
                raise

    def build(where, how):
        if where == "build":
            how()
        return Hangs(where, how)

    class HangsInWorker(Dataset):
        def __len__(self):
            return 400
        def __getitem__(self, i):
            if i == 100:
                time.sleep(600)
            return torch.zeros(8)

    helper_may_end = threading.Event()

    @pytest.fixture(autouse=True, scope="module")
    def helper():
        thread = threading.Thread(target=helper_may_end.wait, name="my-helper")
        thread.start()
        yield
        helper_may_end.set()
        thread.join()

    def hangs(loaderperf, factory):
        run = loaderperf(factory)
        assert run.epoch_exit.value >= 0
        run.rounds.sides["loader"].start()
"""
MARKER = "@pytest.mark.loaderperf(timeout=0.5)"


HANGS = {  # the factory, the stage, and what the main thread's stack says
    "build": ("lambda: build('build', sleeps)", "loader: building the loader", "time.sleep(600)"),
    "iter": ("lambda: build('iter', waits_for_a_lock)", "loader: waiting for the first batch", "lock.acquire()"),
    "first": ("lambda: build('first', spins)", "loader: waiting for the first batch", "while True:"),
    "next": ("lambda: build('next', waits_for_a_lock)", "loader: waiting for a batch", "lock.acquire()"),
    "end": ("lambda: build('end', sleeps)", "loader: waiting for a batch", "time.sleep(600)"),
    "release": ("lambda: build('release', sleeps)", "loader: releasing the iterator", "time.sleep(600)"),
    "worker": ("lambda: DataLoader(HangsInWorker(), 4, num_workers=1)", "loader: waiting for a batch", "_try_get_data"),
}


@pytest.fixture
def session(pytester, monkeypatch, kept):
    """Of all of them, each before a loader that does not hang."""
    if "session" not in kept:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        hanging = "".join(
            f"""
    {MARKER}
    def test_{name}(loaderperf):
        hangs(loaderperf, {factory})

    def test_after_{name}(loaderperf):
        assert loaderperf(lambda: [BATCH] * 12).throughput >= 1
"""
            for name, (factory, _, _) in HANGS.items()
        )
        pytester.makepyfile(test_it=HANGING + hanging)
        kept["session"] = pytester.runpytest_subprocess("--loaderperf", "-vv", timeout=120)
    return kept["session"]


@pytest.mark.parametrize("name", HANGS)
def test_a_hanging_loader_fails_its_test_alone(session, name):
    _, stage, stands = HANGS[name]
    session.stdout.fnmatch_lines([f"*::test_{name} FAILED*", f"*::test_after_{name} PASSED*"])
    shown = session.stdout.str().partition(f"_ test_{name} _")[2].partition("\n____")[0]
    assert f"the loader hangs: got nothing for 0.5 s in stage '{stage}'" in shown
    assert "Expected a batch, an end or an error. Fix the loader, or set loaderperf_timeout (seconds) higher." in shown
    for thread in ("MainThread", "my-helper"):
        assert f"thread '{thread}' stands at (innermost last):" in shown
    assert stands in shown


def test_loaders_that_hang_fail_the_run_and_no_exception_is_ignored(session):
    assert session.ret == pytest.ExitCode.TESTS_FAILED
    session.assert_outcomes(passed=len(HANGS), failed=len(HANGS))
    assert "Exception ignored" not in session.stdout.str() + session.stderr.str()


def test_the_ini_key_sets_the_timeout_of_every_test(pytester):
    pytester.makeini("[pytest]\nloaderperf_timeout = 1")
    hanging = "\n    def test_hangs(loaderperf):\n        hangs(loaderperf, lambda: build('next', sleeps))\n"
    pytester.makepyfile(test_it=HANGING + hanging)
    result = pytester.runpytest_subprocess("--loaderperf", timeout=120)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*got nothing for 1 s in stage 'loader: waiting for a batch'*")


def test_a_loader_stuck_in_native_code_ends_the_process_with_the_report_and_the_results_so_far(pytester):
    pytester.makeconftest(
        """
        from pytest_loaderperf.measurement import watchdog
        watchdog._GRACE_SECONDS = 0.5
        """
    )
    pytester.makepyfile(
        test_it="""
        import signal
        import time
        import pytest
        import torch

        def test_before(loaderperf):
            assert loaderperf(lambda: [torch.zeros(4)] * 12).throughput >= 1

        @pytest.mark.loaderperf(timeout=0.3)
        def test_deaf(loaderperf):
            def deaf():
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
                time.sleep(600)
            loaderperf(deaf)
        """
    )
    result = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-json=result.json", timeout=120)
    assert result.ret == 70
    document = json.loads((pytester.path / "result.json").read_text())
    assert document["partial"] is True
    assert [run["nodeid"] for run in document["runs"]] == ["test_it.py::test_before"]
    with Store(pytester.path / ".loaderperf" / "history.sqlite3") as store:
        assert {metric.test for metric in store.table().values} == {"test_it.py::test_before"}
    shown = result.stdout.str() + result.stderr.str()
    assert "the loader hangs: got nothing for 0.3 s in stage 'loader: building the loader'" in shown
    assert "The loader does not return from native code; the process ends here." in shown
