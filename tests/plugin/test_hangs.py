"""A loader that hangs is ended, its stage named, every thread shown; the other tests of the run go on."""

from __future__ import annotations

import json

import pytest

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

    def test_before(loaderperf):
        assert loaderperf(lambda: [BATCH] * 12).throughput >= 1

    {marker}
    def test_hangs(loaderperf):
        run = loaderperf({factory})
        assert run.epoch_exit.value >= 0
        run.rounds.sides["loader"].start()

    def test_after(loaderperf):
        assert loaderperf(lambda: [BATCH] * 12).throughput >= 1
"""
MARKER = "@pytest.mark.loaderperf(timeout=0.5)"


@pytest.mark.parametrize(
    "factory, stage, stands",
    [
        ("lambda: build('build', sleeps)", "loader: building the loader", "time.sleep(600)"),
        ("lambda: build('iter', waits_for_a_lock)", "loader: waiting for the first batch", "lock.acquire()"),
        ("lambda: build('first', spins)", "loader: waiting for the first batch", "while True:"),
        ("lambda: build('next', waits_for_a_lock)", "loader: waiting for a batch", "lock.acquire()"),
        ("lambda: build('end', sleeps)", "loader: waiting for a batch", "time.sleep(600)"),
        ("lambda: build('release', sleeps)", "loader: releasing the iterator", "time.sleep(600)"),
        ("lambda: DataLoader(HangsInWorker(), 4, num_workers=1)", "loader: waiting for a batch", "_try_get_data"),
    ],
    ids=["build", "iter", "first", "next", "end", "release", "worker"],
)
def test_a_hanging_loader_fails_its_test_alone(pytester, monkeypatch, factory, stage, stands):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytester.makepyfile(test_it=HANGING.replace("{factory}", factory).replace("{marker}", MARKER))
    result = pytester.runpytest_subprocess("--loaderperf", "-vv", timeout=120)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    shown = result.stdout.str()
    assert f"the loader hangs: got nothing for 0.5 s in stage '{stage}'" in shown
    assert "Expected a batch, an end or an error. Fix the loader, or set loaderperf_timeout (seconds) higher." in shown
    for thread in ("MainThread", "my-helper"):
        assert f"thread '{thread}' stands at (innermost last):" in shown
    assert stands in shown
    assert "Exception ignored" not in shown + result.stderr.str()


def test_the_ini_key_sets_the_timeout_of_every_test(pytester):
    pytester.makeini("[pytest]\nloaderperf_timeout = 1")
    pytester.makepyfile(test_it=HANGING.replace("{factory}", "lambda: build('next', sleeps)").replace("{marker}", ""))
    result = pytester.runpytest_subprocess("--loaderperf", timeout=120)
    result.assert_outcomes(passed=2, failed=1)
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
    shown = result.stdout.str() + result.stderr.str()
    assert "the loader hangs: got nothing for 0.3 s in stage 'loader: building the loader'" in shown
    assert "The loader does not return from native code; the process ends here." in shown
