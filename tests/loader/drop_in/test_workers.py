"""Worker processes: seeds, get_worker_info, worker_init_fn, persistence, prefetching and order."""

from __future__ import annotations

import multiprocessing
import os
import random
import time

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset, get_worker_info

from tests.torch_versions import newer_torch

PATIENCE_S = 60  # far beyond what a busy machine needs; only a failure waits so long
# What blocks a worker or counts in it is shared with it by fork.
FORK = multiprocessing.get_context("fork")
persistent_or_not = pytest.mark.parametrize("persistent_workers", [False, True])


class Probe(Dataset):
    """Gives what ``look`` sees, sample by sample, in the process that fetches it."""

    def __init__(self, look, samples=4):
        self.look = look
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        return self.look(index)


def plain(samples):
    return samples


def seen_by(loader_class, look, **arguments):
    """What ``look`` sees in the process of each of four samples."""
    arguments = {"num_workers": 2, "persistent_workers": False, "collate_fn": plain, **arguments}
    return [sample for batch in loader_class(Probe(look), **arguments) for sample in batch]


def test_workers_are_processes_and_take_turns(loader_class):
    loader = loader_class(Probe(lambda _: (get_worker_info().id, os.getpid()), 8), num_workers=2, collate_fn=plain)
    found = [batch[0] for batch in loader]
    assert [worker for worker, _ in found] == [0, 1] * 4
    assert len(set(found)) == 2
    assert os.getpid() not in {pid for _, pid in found}


def test_without_workers_samples_are_fetched_in_the_consumers_process(loader_class):
    assert set(seen_by(loader_class, lambda _: os.getpid(), num_workers=0, persistent_workers=False)) == {os.getpid()}


@pytest.mark.parametrize("given", [False, True], ids=["default generator", "generator given"])
def test_each_library_is_seeded_as_torch_documents(loader_class, given):
    """torch and random by the base seed plus the worker's id, NumPy by a state made of the two."""

    def generator():
        torch.manual_seed(11)
        return torch.Generator().manual_seed(12) if given else None

    base_seed = torch.empty((), dtype=torch.int64).random_(generator=generator()).item()
    expected = []
    for worker in range(2):
        torch_draw = torch.rand((), generator=torch.Generator().manual_seed(base_seed + worker)).item()
        state = np.random.SeedSequence([worker, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]).generate_state(4)
        numpy_draw = np.random.RandomState(state).random()
        expected.append(
            (base_seed + worker, torch_draw, random.Random(base_seed + worker).random(), numpy_draw)  # noqa: S311
        )

    def look(_):
        seed = get_worker_info().seed
        assert torch.initial_seed() == seed
        return seed, torch.rand(()).item(), random.random(), np.random.random()  # noqa: S311, NPY002

    assert seen_by(loader_class, look, generator=generator())[:2] == expected


def test_seeds_differ_between_epochs_and_repeat_under_the_same_seed(loader_class):
    def epochs():
        torch.manual_seed(3)
        loader = loader_class(
            Probe(lambda _: torch.initial_seed()), num_workers=2, persistent_workers=False, collate_fn=plain
        )
        return [tuple(batch[0] for batch in loader) for _ in range(3)]

    assert len(set(epochs())) == 3
    assert epochs() == epochs()


def test_worker_info_says_which_worker_this_is(loader_class):
    def look(_):
        info = get_worker_info()
        return info.id, info.num_workers, info.seed == torch.initial_seed(), type(info.dataset).__name__

    assert seen_by(loader_class, look) == [(0, 2, True, "Probe"), (1, 2, True, "Probe")] * 2


@newer_torch
def test_worker_info_cannot_be_assigned_to_and_its_dataset_is_a_copy(loader_class):
    def look(index):
        info = get_worker_info()
        with pytest.raises(AttributeError):
            info.id = 5
        info.dataset.samples += 1
        return info.dataset.samples

    dataset = Probe(look)
    loader = loader_class(dataset, num_workers=2, persistent_workers=False, collate_fn=plain)
    assert [batch[0] for batch in loader] == [5, 5, 6, 6]
    assert dataset.samples == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_there_is_no_worker_info_in_the_consumer(loader_class, num_workers):
    assert get_worker_info() is None
    for _ in loader_class([1, 2], num_workers=num_workers):
        assert get_worker_info() is None
    assert get_worker_info() is None


def test_without_workers_the_dataset_sees_no_worker_info(loader_class):
    found = seen_by(loader_class, lambda _: get_worker_info() is None, num_workers=0)
    assert found == [True] * 4


def test_worker_init_fn_gets_each_id_after_seeding_and_before_any_sample(loader_class):
    def init(worker_id):
        info = get_worker_info()
        info.dataset.noted = (worker_id, info.id, torch.initial_seed() - info.seed)

    found = seen_by(loader_class, lambda _: get_worker_info().dataset.noted, worker_init_fn=init)
    assert found == [(0, 0, 0), (1, 1, 0)] * 2


def test_worker_init_fn_may_reseed(loader_class):
    found = seen_by(loader_class, lambda _: torch.initial_seed(), worker_init_fn=lambda _: torch.manual_seed(123))
    assert found == [123] * 4


def test_worker_init_fn_is_not_called_without_workers(loader_class):
    called = []
    list(loader_class([1, 2], num_workers=0, worker_init_fn=called.append))
    assert called == []


@persistent_or_not
def test_worker_init_fn_is_called_once_for_each_process(loader_class, persistent_workers):
    calls = FORK.Value("i", 0)

    def init(_):
        with calls.get_lock():
            calls.value += 1

    loader = loader_class(range(4), num_workers=2, persistent_workers=persistent_workers, worker_init_fn=init)
    for _ in range(3):
        list(loader)
    assert calls.value == (2 if persistent_workers else 6)


def test_an_affinity_set_by_worker_init_fn_stays(loader_class):
    core = max(os.sched_getaffinity(0))
    found = seen_by(
        loader_class, lambda _: os.sched_getaffinity(0), worker_init_fn=lambda _: os.sched_setaffinity(0, [core])
    )
    assert found == [{core}] * 4


def test_a_worker_computes_on_one_thread(loader_class):
    assert seen_by(loader_class, lambda _: torch.get_num_threads()) == [1] * 4


def test_a_worker_can_compute_what_the_consumer_has_computed_before_the_fork(loader_class):
    def convolve(_):
        return torch.nn.functional.conv1d(torch.ones(1, 1, 24000), torch.ones(1, 1, 2)).shape

    expected = convolve(0)
    assert seen_by(loader_class, convolve, timeout=PATIENCE_S) == [expected] * 4


@persistent_or_not
def test_persistent_workers_are_the_same_processes_in_every_epoch(loader_class, children, persistent_workers):
    loader = loader_class(
        Probe(lambda _: os.getpid()), num_workers=2, persistent_workers=persistent_workers, collate_fn=plain
    )
    epochs = [{batch[0] for batch in loader} for _ in range(3)]
    assert [len(pids) for pids in epochs] == [2, 2, 2]
    assert len(set.union(*epochs)) == (2 if persistent_workers else 6)
    alive = children.started()
    assert {process.pid for process in alive} == (epochs[0] if persistent_workers else set())
    del loader
    assert children.end(alive)


@persistent_or_not
def test_persistent_workers_keep_their_copy_of_the_dataset(loader_class, persistent_workers):
    class Counted(Dataset):
        start = 0
        fetched = 0

        def __len__(self):
            return 4

        def __getitem__(self, index):
            self.fetched += 1
            return self.start + self.fetched

    dataset = Counted()
    loader = loader_class(dataset, num_workers=2, persistent_workers=persistent_workers)
    found = []
    for _ in range(2):
        found.append([batch.item() for batch in loader])
        dataset.start += 100
    assert found == [[1, 1, 2, 2], [3, 3, 4, 4] if persistent_workers else [101, 101, 102, 102]]


@persistent_or_not
def test_epochs_of_an_iterable_dataset_begin_with_the_same_worker(loader_class, persistent_workers):
    class Ids(IterableDataset):
        def __iter__(self):
            return iter([get_worker_info().id] * 5)

    loader = loader_class(Ids(), batch_size=5, num_workers=2, persistent_workers=persistent_workers)
    assert [[batch.tolist() for batch in loader] for _ in range(3)] == [[[0] * 5, [1] * 5]] * 3


def test_a_persistent_iterator_left_early_starts_over(loader_class):
    loader = loader_class(range(8), batch_size=2, num_workers=2, persistent_workers=True)
    for batch in loader:
        assert batch.tolist() == [0, 1]
        break
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("prefetch_factor", [1, 3])
def test_prefetch_factor_batches_are_fetched_ahead_by_each_worker_and_no_more(loader_class, prefetch_factor):
    fetched = FORK.Value("i", 0)

    def look(index):
        with fetched.get_lock():
            fetched.value += 1
        return index

    loader = loader_class(Probe(look, 30), num_workers=2, prefetch_factor=prefetch_factor)
    assert loader.prefetch_factor == prefetch_factor
    iterator = iter(loader)
    for delivered in range(1, 4):
        next(iterator)
        most = delivered + 2 * prefetch_factor
        deadline = time.monotonic() + PATIENCE_S
        while fetched.value < most and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)  # for one too many to show
        assert fetched.value == most


def blocking(index, own, other):
    """The first sample waits until ``own`` is set; the second, for the other worker, sets ``other``."""
    if index == 0:
        assert own.wait(PATIENCE_S)
    if index == 1:
        other.set()
    return index


def test_batches_come_in_order_though_a_later_one_is_ready(loader_class):
    second_is_fetched = FORK.Event()
    dataset = Probe(lambda index: blocking(index, second_is_fetched, second_is_fetched), 6)
    loader = loader_class(dataset, num_workers=2, in_order=True)
    assert [batch.item() for batch in loader] == list(range(6))


@newer_torch
def test_without_order_a_batch_that_is_ready_overtakes_one_that_is_not(loader_class):
    others_came = FORK.Event()
    dataset = Probe(lambda index: blocking(index, others_came, FORK.Event()), 6)
    iterator = iter(loader_class(dataset, num_workers=2, in_order=False, prefetch_factor=1))
    found = [next(iterator).item() for _ in range(5)]
    others_came.set()
    assert (found, [batch.item() for batch in iterator]) == ([1, 2, 3, 4, 5], [0])


def test_without_order_an_iterable_dataset_gives_what_is_ready(loader_class):
    others_came = FORK.Event()

    class Uneven(IterableDataset):
        def __iter__(self):
            if get_worker_info().id == 0:
                assert others_came.wait(PATIENCE_S)
            return iter([10 * get_worker_info().id + i for i in range(3)])

    iterator = iter(loader_class(Uneven(), batch_size=None, num_workers=2, in_order=False))
    found = [next(iterator) for _ in range(3)]
    others_came.set()
    assert (found, list(iterator)) == ([10, 11, 12], [0, 1, 2])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_large_batches_of_workers_lie_in_shared_memory(loader_class, num_workers):
    large = torch.zeros(1 << 20, dtype=torch.uint8)  # below 1 MiB they differ
    for batch in loader_class([large] * 4, batch_size=2, num_workers=num_workers):
        assert batch.is_shared() is bool(num_workers)


@pytest.mark.parametrize(
    "context, method",
    [("fork", "fork"), (FORK, "fork"), ("forkserver", "forkserver")],
    ids=["fork", "a context object", "forkserver"],
)
def test_each_start_method_gives_the_same_batches(loader_class, context, method):
    dataset = TensorDataset(torch.arange(5))
    loader = loader_class(dataset, batch_size=2, num_workers=1, multiprocessing_context=context)
    assert loader.multiprocessing_context.get_start_method() == method
    assert [batch.tolist() for (batch,) in loader] == [[0, 1], [2, 3], [4]]


@newer_torch
def test_what_spawn_cannot_pickle_is_warned_of(loader_class, raised):
    loader = loader_class([1, 2], num_workers=1, multiprocessing_context="spawn", worker_init_fn=lambda _: None)
    with pytest.warns(UserWarning, match="^Got pickle error when attempting to start a worker Process"):
        error = raised(lambda: iter(loader))
    assert "pickle" in str(error)


def test_a_spawned_worker_has_the_users_classes_and_seed(run_script):
    done = run_script("""
import torch
from torch.utils.data import Dataset, get_worker_info

class Seeds(Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return torch.initial_seed(), self.noted

def note(worker_id):
    get_worker_info().dataset.noted = worker_id

def main():
    torch.manual_seed(0)
    base_seed = torch.empty((), dtype=torch.int64).random_().item()
    torch.manual_seed(0)
    loader = Loader(Seeds(), num_workers=1, worker_init_fn=note, multiprocessing_context="spawn")
    assert loader.multiprocessing_context.get_start_method() == "spawn"
    print([[part.item() for part in batch] for batch in loader] == [[base_seed, 0], [base_seed, 0]])
""")
    assert done.stdout == "True\n"
    assert "Traceback" not in done.stderr  # Python's resource tracker may have a word to say


def test_tensors_of_a_workers_batch_that_share_memory_go_on_sharing_it(loader_class):
    def collate(samples):
        whole = torch.tensor(samples)
        return whole, whole[1:], whole.reshape(2, 2).T

    whole, part, turned = next(iter(loader_class(range(4), 4, collate_fn=collate, num_workers=1)))
    assert turned.tolist() == [[0, 2], [1, 3]]
    whole.zero_()
    assert part.tolist() == [0, 0, 0]
    assert turned.tolist() == [[0, 0], [0, 0]]
