"""What a loader says that it allocates, against what is traced, and the plans that keep it within a budget."""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader, plan, prefetch
from pytest_loaderperf.loader.plan import Memory, Plan, plan_arrays, plan_samples, within

BATCH_SIZE, BATCHES = 32, 30
ROWS = np.zeros((BATCH_SIZE * BATCHES, 128, 128), np.float32)  # batches of 2 MiB, which is large enough for any buffer
LABELS = np.zeros(len(ROWS), np.int64)
BATCH_NBYTES = BATCH_SIZE * (ROWS[0].nbytes + 8)
SLACK_NBYTES = BATCH_NBYTES // 4  # Python's own objects, but no batch


class Samples:
    """Rows and labels as a map-style dataset that allocates nothing."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        return ROWS[index], LABELS[index]


ARRAYS = {"x": ROWS, "y": LABELS}
PLANS = [
    {"num_workers": 0},
    {"num_workers": 1},
    {"num_workers": 2},
    {"num_workers": 2, "prefetch_factor": 1},
    {"num_workers": 2, "prefetch_factor": 9},  # three batches at once, where they are gathered
]
LOADERS = {
    f"{name}, {arguments}": (dataset, {"worker_kind": "threads", **arguments})
    for name, dataset in [("arrays", ARRAYS), ("samples", Samples())]
    for arguments in PLANS
}


@pytest.fixture(params=LOADERS.values(), ids=LOADERS)
def make_loader(request):
    dataset, chosen = request.param
    made = []

    def make(**arguments):
        made.append(ReferenceLoader(dataset, BATCH_SIZE, **{**chosen, **arguments}))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


@pytest.fixture
def traced():
    """``traced(loader)``: bytes of the arrays that two epochs leave, and the peak of all memory during them."""

    def trace(loader):
        gc.collect()
        tracemalloc.start()
        for _ in range(2):
            for _batch in loader:
                pass
        del _batch
        snapshot = tracemalloc.take_snapshot()
        arrays = snapshot.filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        return sum(trace.size for trace in arrays.traces), tracemalloc.get_traced_memory()[1]

    yield trace
    tracemalloc.stop()


def test_the_estimate_is_within_a_hundredth_of_what_is_traced(make_loader, traced):
    loader = make_loader()
    arrays_nbytes, _ = traced(loader)
    assert loader.memory == Memory(BATCH_NBYTES, pytest.approx(arrays_nbytes, rel=0.01), 0, 0)


def test_the_peak_of_an_epoch_is_that_of_its_buffers(make_loader, traced):
    loader = make_loader()
    _, peak_nbytes = traced(loader)
    assert peak_nbytes <= loader.memory.buffers + SLACK_NBYTES


def test_later_epochs_use_the_buffers_of_the_first(make_loader):
    loader, made = make_loader(), []

    def counted(shape, dtype):
        made.append(shape)
        return np.empty(shape, dtype)

    loader._engine.buffers.empty = counted
    list(map(type, loader))
    first = len(made)
    assert first > 0
    for _ in range(3):
        list(map(type, loader))
    assert len(made) == first


@pytest.mark.parametrize("batches", [2, 7])
def test_a_budget_bounds_the_peak(make_loader, traced, batches):
    budget = batches * BATCH_NBYTES + 1
    loader = make_loader(memory_budget=budget, shuffle=True)
    _, peak_nbytes = traced(loader)
    memory = loader.memory
    assert memory.order == 8 * len(ROWS)
    assert peak_nbytes <= budget + memory.order + SLACK_NBYTES
    assert 2 * BATCH_NBYTES <= memory.buffers <= budget
    assert loader.prefetch_depth <= batches - 2


@pytest.mark.parametrize("dataset", [ARRAYS, Samples()], ids=["arrays", "samples"])
def test_a_budget_bounds_deep_prefetching_too(traced, dataset):
    arguments = {"num_workers": 3, "prefetch_factor": 15, "worker_kind": "threads"}
    budget = 6 * BATCH_NBYTES
    with ReferenceLoader(dataset, BATCH_SIZE, memory_budget=budget, **arguments) as loader:
        _, peak_nbytes = traced(loader)
        assert loader.memory.buffers == budget
        assert 5 * BATCH_NBYTES < peak_nbytes <= budget + SLACK_NBYTES


def test_threads_that_let_go_of_a_batch_late_keep_none_of_its_memory(make_loader, traced, monkeypatch):
    run, ends = prefetch.Job.run, itertools.count()

    def run_and_stay(job, *, here=False):
        ran = run(job, here=here)
        if not here and next(ends) % 4 == 0:  # the others go on
            time.sleep(0.05)
        return ran

    monkeypatch.setattr(prefetch.Job, "run", run_and_stay)
    loader = make_loader()
    _, peak_nbytes = traced(loader)
    assert peak_nbytes <= loader.memory.buffers + SLACK_NBYTES


def test_a_budget_of_less_than_two_batches_is_refused(make_loader):
    with pytest.raises(DataError) as caught:
        next(iter(make_loader(memory_budget=2 * BATCH_NBYTES - 1)))
    assert str(caught.value) == (
        "memory_budget=4,194,815 bytes holds less than 2 batches of 2,097,408 bytes, which is the least a loader "
        "needs. Give at least 4,194,816, or a smaller batch_size."
    )


@pytest.mark.parametrize(
    "dataset, sample_nbytes",
    [
        ({"x": np.zeros((100, 3), np.uint8), "y": np.zeros(100)}, 3 + 8),
        ((torch.zeros(100, 2, dtype=torch.bfloat16), torch.zeros(100, dtype=torch.bool)), 4 + 1),
        ([{"x": (torch.zeros(3), 1), "y": [2.0, True]}] * 100, 12 + 8 + 8 + 1),
        ([(np.zeros(3, "c8"), torch.zeros(2, 2, dtype=torch.float16))] * 100, 24 + 8),
    ],
    ids=["dict", "tuple", "nested samples", "pairs"],
)
def test_every_field_counts_once(dataset, sample_nbytes):
    loader = ReferenceLoader(dataset, 10, num_workers=0)
    list(loader)
    assert loader.memory == Memory(10 * sample_nbytes, 20 * sample_nbytes, 0, 0)


def test_of_arrays_it_is_known_at_once_and_of_samples_after_the_first():
    assert ReferenceLoader(LABELS, 10, shuffle=True, num_workers=0).memory.batch == 80
    loader = ReferenceLoader(list(range(100)), 10, shuffle=True, num_workers=0)
    assert loader.memory == Memory(None, None, 0, 800)
    next(iter(loader))
    assert loader.memory == Memory(80, 160, 0, 800)


def test_batches_of_a_batch_sampler_count_in_full(traced):
    whole = [list(range(start, start + BATCH_SIZE)) for start in range(0, len(ROWS), BATCH_SIZE)]
    with ReferenceLoader(ROWS, batch_sampler=whole, num_workers=0) as loader:
        arrays_nbytes, _ = traced(loader)
        assert loader.memory.buffers in (None, pytest.approx(arrays_nbytes, rel=0.01))


KB = 1000
GATHERS = [  # batch_nbytes, batches, workers, prefetch_factor, cores, budget, single -> workers, ahead, chunk
    ("tiny: not worth a thread", 1 * KB, 1000, None, None, 4, None, False, (0, 0, 131)),
    ("a third of an epoch at most", 1 * KB, 60, None, None, 4, None, False, (0, 0, 10)),
    ("large", 100 * KB, 1000, None, None, 4, None, False, (3, 5, 15)),
    ("larger than a chunk", 10_000 * KB, 1000, None, None, 4, None, False, (3, 5, 1)),
    ("many cores", 100 * KB, 1000, None, None, 64, None, False, (3, 5, 15)),
    ("one core", 100 * KB, 1000, None, None, 1, None, False, (0, 0, 1)),
    ("no threads", 100 * KB, 1000, 0, None, 4, None, False, (0, 0, 1)),
    ("threads for tiny batches", 1 * KB, 1000, 1, None, 4, None, False, (1, 3, 66)),
    ("endless", 100 * KB, None, 2, None, 4, None, False, (2, 4, 15)),
    ("few batches", 100 * KB, 6, 2, None, 4, None, False, (2, 4, 1)),
    ("of varying size", 100 * KB, 1000, 2, None, 4, None, True, (2, 4, 1)),
    ("empty rows", 0, 1000, 2, None, 4, None, False, (2, 4, 55)),
    ("prefetched by one", 100 * KB, 1000, 1, 1, 4, None, False, (1, 1, 1)),
    ("prefetched", 100 * KB, 1000, 2, 4, 4, None, False, (2, 8, 1)),
    ("prefetched far", 100 * KB, 1000, 2, 9, 4, None, False, (2, 4, 3)),
    ("prefetched, of varying size", 100 * KB, 1000, 2, 9, 4, None, True, (2, 18, 1)),
    ("budget of 20", 100 * KB, 1000, 2, None, 4, 2000 * KB, False, (2, 4, 3)),
    ("budget of 5", 100 * KB, 1000, 2, None, 4, 500 * KB, False, (2, 3, 1)),
    ("budget of 3", 100 * KB, 1000, 2, None, 4, 300 * KB, False, (2, 1, 1)),
    ("budget of 2", 100 * KB, 1000, 2, None, 4, 200 * KB, False, (0, 0, 1)),
    ("budget of 3, prefetched far", 100 * KB, 1000, 2, 9, 4, 300 * KB, False, (2, 1, 1)),
    ("budget of 7, tiny", 1 * KB, 1000, None, None, 4, 7 * KB, False, (0, 0, 3)),
]


@pytest.mark.parametrize("case", GATHERS, ids=lambda case: case[0])
def test_how_arrays_are_gathered(case):
    _, batch_nbytes, batches, workers, prefetch_factor, cores, budget, single, wanted = case
    came = plan_arrays(
        batch_nbytes,
        batches,
        workers=workers,
        prefetch_factor=prefetch_factor,
        cores=cores,
        budget=budget,
        single=single,
    )
    assert came == Plan(*wanted)


ASKED = {
    "batch_nbytes": st.integers(1, 10**7),
    "batches": st.none() | st.integers(0, 10**4),
    "workers": st.none() | st.integers(0, 8),
    "prefetch_factor": st.none() | st.integers(1, 40),
    "cores": st.integers(1, 8),
    "single": st.booleans(),
}


@settings(deadline=None)
@given(asked=st.fixed_dictionaries(ASKED), fits=st.integers(2, 200))
def test_no_plan_exceeds_its_budget_or_prefetches_more_than_was_asked(asked, fits):
    batch_nbytes, factor = asked["batch_nbytes"], asked["prefetch_factor"]
    budget = fits * batch_nbytes
    came = plan_arrays(**asked, budget=budget)
    assert came.batches * batch_nbytes <= budget
    assert came.workers <= (asked["cores"] - 1 if asked["workers"] is None else asked["workers"])
    assert came.chunk >= 1
    if came.workers:
        assert came.ahead >= 1
        assert factor is None or came.depth <= came.workers * factor
    for_samples = within(plan_samples(came.workers, factor), batch_nbytes, budget)
    assert for_samples.batches * batch_nbytes <= budget


@pytest.mark.parametrize(
    "workers, prefetch_factor, wanted",
    [(0, None, (0, 0, 1)), (2, None, (2, 2, 1)), (2, 5, (2, 10, 1)), (0, 5, (0, 0, 1))],
)
def test_how_samples_are_fetched(workers, prefetch_factor, wanted):
    assert plan_samples(workers, prefetch_factor) == Plan(*wanted)


@pytest.mark.parametrize(
    "budget, wanted",
    [(None, (2, 10, 1)), (1200, (2, 10, 1)), (1199, (2, 9, 1)), (300, (2, 1, 1)), (200, (2, 0, 1))],
)
def test_a_plan_for_samples_shrinks_once_their_size_is_known(budget, wanted):
    assert within(Plan(2, 10, 1), 100, budget) == Plan(*wanted)


def test_a_plan_for_samples_that_cannot_shrink_enough_is_refused():
    with pytest.raises(DataError) as caught:
        within(Plan(2, 10, 1), 1000, 1999)
    assert str(caught.value) == (
        "memory_budget=1,999 bytes holds less than 2 batches of 1,000 bytes, which is the least a loader needs. "
        "Give at least 2,000, or a smaller batch_size."
    )


@pytest.mark.parametrize("came, batches, depth", [((0, 0, 1), 2, 0), ((0, 0, 5), 10, 8), ((2, 4, 3), 18, 16)])
def test_a_plan_holds_two_batches_beyond_those_that_are_ahead(came, batches, depth):
    assert (Plan(*came).batches, Plan(*came).depth) == (batches, depth)
    assert batches - depth == plan.SPARE_BATCHES
