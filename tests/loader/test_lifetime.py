"""How iterations, loaders and processes end. What could hang does so in a process of its own."""

from __future__ import annotations

import gc
import pickle
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from pytest_loaderperf.data import ArrayDataset, PersistentExecutor
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.loader import ReferenceLoader

X = np.arange(200, dtype=np.float32).reshape(100, 2)
Y = np.arange(100)
DATASETS = {
    "dict": {"x": X, "y": Y},
    "tuple": (X, Y),
    "array": X,
    "tensor": torch.tensor(X),
    "TensorDataset": TensorDataset(torch.tensor(X)),
    "map-style": ArrayDataset(X, Y),
}
PREAMBLE = """
import faulthandler, gc, os, signal, threading, time
import numpy as np, torch
from pytest_loaderperf.data import PersistentExecutor
from pytest_loaderperf.loader import ReferenceLoader

class Slow:
    def __len__(self):
        return 100
    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.tensor(index)

ARRAY = np.zeros((5000, 256))
faulthandler.dump_traceback_later(30, exit=True)  # a hang is for ever; a busy machine may take seconds
"""
SCRIPTS = {
    "the interpreter exits after half an epoch of arrays": """
it = iter(ReferenceLoader(ARRAY, 8, num_workers=2))
next(it)
""",
    "the interpreter exits after half an epoch of samples": """
it = iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="threads"))
next(it)
""",
    "the interpreter exits while another thread iterates": """
class Plain(Slow):  # without torch: Python ends a daemon thread in the midst of C++, which may abort
    def __getitem__(self, index):
        time.sleep(0.01)
        return index
def consume():
    for _ in ReferenceLoader(Plain(), 2, num_workers=2, worker_kind="threads", collate_fn=list):
        pass
threading.Thread(target=consume, daemon=True).start()
time.sleep(0.1)
""",
    "half an iterator in a cycle is collected by the consumer": """
cycle = [iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="threads"))]
cycle.append(cycle)
next(cycle[0])
del cycle
gc.collect()
""",
    "half an iterator in a cycle is collected by a worker": """
dropped = threading.Event()
class Collecting(Slow):
    def __getitem__(self, index):
        if index >= 2:
            dropped.wait()
            gc.collect()
        return torch.tensor(index)
gc.disable()  # so that the worker is the one to collect
loader = ReferenceLoader(Collecting(), 2, num_workers=2, worker_kind="threads")
cycle = [iter(loader)]
cycle.append(cycle)
next(cycle[0])
del cycle
dropped.set()
time.sleep(0.2)
loader.close()
""",
    "half an iterator that skips is collected in a cycle": """
cycle = [iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="threads", on_error="skip"))]
cycle.append(cycle)
next(cycle[0])
del cycle
gc.collect()
""",
    "the interpreter exits after half an epoch of worker processes": """
it = iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="processes"))
next(it)
""",
    "loaders are collected whose worker processes failed": """
class Bad(Slow):
    def __getitem__(self, index):
        raise ValueError(index)
for on_error in ("raise", "skip"):
    for _ in range(2):
        try:
            list(ReferenceLoader(Bad(), 2, num_workers=2, worker_kind="processes", on_error=on_error))
        except (ValueError, RuntimeError):
            pass
        else:
            raise AssertionError
        gc.collect()
""",
    "loaders are dropped in the middle of an epoch of worker processes": """
for persistent in (True, False):
    it = iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="processes", persistent_workers=persistent))
    next(it)
    del it
    gc.collect()
""",
    "loaders take turns": """
loaders = [ReferenceLoader(Slow(), 20, num_workers=2, worker_kind=kind, on_error=on_error)
           for kind in ("threads", "processes") for on_error in ("raise", "skip")]
for batches in zip(*loaders, strict=True):
    assert len({str(batch) for batch in batches}) == 1
""",
    "a loader is closed in the middle of two iterations": """
loader = ReferenceLoader(Slow(), 2, num_workers=1, worker_kind="threads")
one, two = iter(loader), iter(loader)
next(one), next(two)
loader.close()
one.close(), two.close()
""",
    "a loader of processes is closed in the middle of two iterations": """
loader = ReferenceLoader(Slow(), 2, num_workers=1, worker_kind="processes")
one, two = iter(loader), iter(loader)
next(one), next(two)
loader.close()
one.close(), two.close()
""",
    "an executor is closed while two threads share it": """
executor = PersistentExecutor(1)
def consume():
    try:
        list(ReferenceLoader(Slow(), 2, num_workers=1, worker_kind="threads", executor=executor))
    except Exception:
        pass
threads = [threading.Thread(target=consume) for _ in range(2)]
for thread in threads: thread.start()
time.sleep(0.1)
executor.close()
for thread in threads: thread.join()
""",
    "a forked child iterates what its parent has iterated": """
loader = ReferenceLoader(Slow(), 20, num_workers=2, worker_kind="threads")
arrays = ReferenceLoader(ARRAY, 8, num_workers=2)
held = iter(arrays)
next(held), next(iter(loader))
child = os.fork()
if child == 0:
    signal.alarm(25)
    assert len(list(loader)) == 5
    assert len(list(arrays)) == 625
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(list(loader)) == 5
""",
    "a forked child iterates what its parent has skipped through": """
loader = ReferenceLoader(Slow(), 20, num_workers=2, worker_kind="threads", on_error="skip")
held = iter(loader)
next(held)
child = os.fork()
if child == 0:
    signal.alarm(25)
    assert len(list(loader)) == 5
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(list(held)) == 4
""",
    "a forked child drops half an iterator of its parent": """
it = iter(ReferenceLoader(Slow(), 2, num_workers=2, worker_kind="threads"))
next(it)
child = os.fork()
if child == 0:
    signal.alarm(25)
    it.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_nothing_hangs_when(run_code, script):
    done = run_code(PREAMBLE + script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["close", "drop"])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_no_sample_is_fetched_after_the_iteration_ended_early(num_workers, end):
    class Counted:
        fetched = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> int:
            time.sleep(0.001)
            self.fetched += 1
            return index

    dataset = Counted()
    with ReferenceLoader(dataset, 2, num_workers=num_workers) as loader:
        iterator = iter(loader)
        next(iterator)
        if end == "close":
            iterator.close()
        else:
            del iterator
            gc.collect()
        seen = dataset.fetched
        time.sleep(0.03)
        assert dataset.fetched == seen


def test_threads_are_the_same_ones_in_every_epoch():
    threads = set()

    class Noting:
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> int:
            threads.add(threading.get_ident())
            return index

    with ReferenceLoader(Noting(), 2, num_workers=1, worker_kind="threads") as loader:
        for _ in range(3):
            list(loader)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_leaving_the_with_block_ends_the_threads_and_close_may_be_called_again():
    with ReferenceLoader(X, 2, num_workers=2) as loader:
        list(loader)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("loaderperf")]
        assert threads
    loader.close()
    assert not any(thread.is_alive() for thread in threads)


def test_iterating_with_threads_after_close_is_refused():
    loader = ReferenceLoader(X, 2, num_workers=2)
    loader.close()
    with pytest.raises(LoaderPerfError) as caught:
        list(loader)
    assert str(caught.value) == "this executor is closed. Make a new PersistentExecutor, or close it later."


def test_loaders_share_a_given_executor():
    with PersistentExecutor(2) as executor:
        loaders = [ReferenceLoader(Y, 10, executor=executor), ReferenceLoader(list(Y), 10, executor=executor)]
        assert all(loader.executor is executor for loader in loaders)
        for ours, theirs in zip(*loaders, strict=True):
            assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_a_pickled_loader_goes_on_with_the_same_epoch(dataset, num_workers):
    def flat(batch: object) -> list:
        parts = batch.values() if isinstance(batch, dict) else [batch] if isinstance(batch, torch.Tensor) else batch
        return [part.tolist() for part in parts]

    with ReferenceLoader(dataset, 7, shuffle=True, seed=1, num_workers=num_workers) as loader:
        list(loader)
        with pickle.loads(pickle.dumps(loader)) as copy:  # noqa: S301 made here
            assert [flat(batch) for batch in copy] == [flat(batch) for batch in loader]


def test_a_sample_that_hangs_is_not_waited_for_beyond_the_timeout():
    hangs = threading.Event()

    class Hanging:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return hangs.wait(60) if index == 1 else index

    loader = ReferenceLoader(Hanging(), num_workers=1, worker_kind="threads", timeout=1)
    iterator = iter(loader)
    assert next(iterator).tolist() == [0]
    began_s = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader timed out"):
        next(iterator)
    del iterator
    loader.close()
    took_s = time.monotonic() - began_s
    hangs.set()
    assert took_s < 30
