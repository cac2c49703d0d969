"""How iterations, loaders and processes end: no process is left, no file descriptor, nothing hangs."""

from __future__ import annotations

import gc
import signal
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from tests.loader.test_leaks import within

persistent_or_not = pytest.mark.parametrize("persistent_workers", [False, True])


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(2)


def open_files():
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@persistent_or_not
@pytest.mark.parametrize("dataset", [list(range(100)), Endless()], ids=["map-style", "iterable"])
def test_workers_end_with_the_iterator_that_is_dropped_early(loader_class, children, dataset, persistent_workers):
    loader = loader_class(dataset, batch_size=2, num_workers=2, persistent_workers=persistent_workers)
    iterator = iter(loader)
    next(iterator)
    workers = children.started()
    assert len(workers) == 2
    del iterator, loader
    assert children.end(workers)


def test_workers_end_with_the_loop_that_breaks(loader_class, children):
    loader = loader_class(range(100), num_workers=2, persistent_workers=False)
    for _ in loader:
        workers = children.started()
        break
    assert len(workers) == 2
    assert children.end(workers)
    assert len(list(loader)) == 100


def test_workers_end_with_the_epoch_though_the_iterator_is_held(loader_class, children):
    iterator = iter(loader_class(range(6), num_workers=2, persistent_workers=False))
    next(iterator)
    workers = children.started()
    assert len(workers) == 2
    assert len(list(iterator)) == 5
    assert children.end(workers)
    assert list(iterator) == []


def test_workers_end_when_the_consumer_raises(loader_class, children, raised):
    loader = loader_class(range(100), num_workers=2, persistent_workers=False)
    workers = set()

    def consume():
        for _ in loader:
            workers.update(children.started())
            raise LookupError("the consumer gives up")

    assert str(raised(consume)) == "the consumer gives up"
    assert len(workers) == 2
    assert children.end(workers)


def test_an_iterator_that_was_never_used_ends_its_workers(loader_class, children):
    iter(loader_class(range(100), num_workers=2, persistent_workers=False))
    assert children.end(children.started())


def test_many_epochs_left_early_keep_no_process_and_no_file_open(loader_class, children):
    loader = loader_class(range(100), batch_size=2, num_workers=1, persistent_workers=False)
    before = None
    for _ in range(10):
        for _ in loader:
            break
        assert children.end(children.started())
        before = open_files() if before is None else before
    assert within(lambda: open_files() <= before)


def test_many_small_batches_do_not_use_up_the_open_files(run_main):
    """Neither those that are dropped, nor, under torch's other strategy, those that are held."""
    done = run_main("""
import resource
import torch

def main():
    dataset = [torch.zeros(4)] * 120
    once, again, held = (Loader(dataset, num_workers=1, persistent_workers=choice) for choice in (False, True, False))
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    torch.multiprocessing.set_sharing_strategy("file_descriptor")
    print(sum(len(batch) for batch in once))
    print([sum(len(batch) for batch in again) for _ in range(2)])
    torch.multiprocessing.set_sharing_strategy("file_system")
    print(len(list(held)))
""")
    assert (done.stdout, done.stderr) == ("120\n[120, 120]\n120\n", "")


def test_holding_more_large_batches_than_files_may_be_open_says_what_to_do(run_main):
    done = run_main("""
import resource
import torch

def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    torch.multiprocessing.set_sharing_strategy("file_descriptor")
    held = []
    try:
        for batch in Loader([torch.zeros(1 << 18)] * 120, num_workers=1, persistent_workers=False):
            held.append(batch)
    except RuntimeError as error:
        held.clear()
        print(error)
""")
    expected = (
        "Too many open files. Communication with the workers is no longer possible. Please increase the limit using "
        "`ulimit -n` in the shell or change the sharing strategy by calling "
        "`torch.multiprocessing.set_sharing_strategy('file_system')` at the beginning of your code\n"
    )
    assert (done.stdout, done.returncode) == (expected, 0)


def test_the_interpreter_exits_in_silence_whatever_is_left(run_main):
    done = run_main("""
import torch

def main():
    global loaders, iterators
    arrays = torch.zeros(64, 28, 28)
    loaders = [Loader(dataset, batch_size=8, num_workers=workers, persistent_workers=choice)
               for dataset in (arrays, list(arrays)) for workers, choice in ((0, False), (1, False), (1, True))]
    loaders += [Loader(list(arrays), batch_size=8, num_workers=1, persistent_workers=True) for _ in range(2)]
    *opened, broken, used = loaders
    iterators = [iter(loader) for loader in opened]
    for iterator in iterators:
        next(iterator)
    for batch in broken:
        break
    list(used)
    print("done")
""")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_the_interpreter_exits_by_an_error_though_the_workers_queues_are_full(run_main):
    """Indices too large for the pipe that they are sent through."""
    done = run_main("""
import torch
from torch.utils.data import Dataset

class Empty(Dataset):
    def __len__(self):
        return 10_000_000
    def __getitem__(self, index):
        return torch.empty(0)

def main():
    iterator = iter(Loader(Empty(), batch_size=40960, num_workers=1))
    for batch in iterator:
        assert batch.numel() == 0
        raise LookupError("the consumer gives up")
""")
    assert done.returncode == 1
    assert done.stderr.endswith("LookupError: the consumer gives up\n")


def test_workers_end_when_the_consumers_process_is_killed(run_main, children):
    done = run_main("""
import os, signal
from torch.utils.data import Dataset
from torch.utils.data._utils import worker

worker.MP_STATUS_CHECK_INTERVAL = 0.5  # so often a worker looks for its parent, instead of each 5 s

class Pids(Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return os.getpid()

def main():
    loaders = [Loader(Pids(), num_workers=2, persistent_workers=choice) for choice in (False, True)]
    iterators = [iter(loader) for loader in loaders]
    print(*[next(iterator).item() for iterator in iterators for _ in range(2)], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
""")
    assert done.returncode == -signal.SIGKILL
    pids = {int(pid) for pid in done.stdout.split()}
    assert len(pids) == 4
    assert children.end([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)])


def test_a_dataset_is_let_go_with_its_loader(loader_class):
    class Held(Dataset):
        alive = 0

        def __init__(self):
            Held.alive += 1

        def __del__(self):
            Held.alive -= 1

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index

    loader = loader_class(Held(), num_workers=0)
    list(loader)
    iterator = iter(loader)
    next(iterator)
    assert Held.alive == 1
    del loader, iterator
    gc.collect()
    assert Held.alive == 0
