from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from pytest_loaderperf.data.execution.worth import Worth
from pytest_loaderperf.loader import ReferenceLoader, gather

SAMPLES, BATCH_SIZE = 4000, 64
ROWS = np.arange(SAMPLES * 512, dtype=np.float32).reshape(SAMPLES, 512)
BATCH_NBYTES = BATCH_SIZE * ROWS[0].nbytes
ORDER_NBYTES = SAMPLES * 8
SLACK_NBYTES = 2 * BATCH_NBYTES  # Python's own objects, and what NumPy needs for the rows at hand

PLANS = [
    {"num_workers": 0},
    {"num_workers": 1},
    {"num_workers": 2},
    {"num_workers": 1, "prefetch_factor": 1},
    {"num_workers": 2, "prefetch_factor": 5},
]


@pytest.fixture(params=PLANS, ids=str)
def plan(request):
    return request.param


def addresses(loader: ReferenceLoader) -> set[int]:
    return {batch.data_ptr() for batch in loader}


def peak_nbytes(loader: ReferenceLoader) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(2):
            for _batch in loader:
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_buffers_stay_within_the_prefetch_depth_and_two_batches(plan):
    with ReferenceLoader(ROWS, BATCH_SIZE, shuffle=True, seed=0, **plan) as loader:
        bound = (loader.prefetch_depth + 2) * BATCH_NBYTES + ORDER_NBYTES + SLACK_NBYTES
        assert peak_nbytes(loader) <= bound


@pytest.mark.parametrize("plan", [{"num_workers": 0}, {"num_workers": 2}], indirect=True, ids=str)
@pytest.mark.parametrize(
    "made", [lambda: np.repeat(ROWS, 2, axis=1)[:, ::2], lambda: ROWS.astype(">f4")], ids=["strided", "big-endian"]
)
def test_rows_that_must_be_converted_need_no_second_set_of_buffers(plan, made):
    with ReferenceLoader(made(), BATCH_SIZE, shuffle=True, seed=0, **plan) as loader:
        bound = (loader.prefetch_depth + 2) * BATCH_NBYTES + ORDER_NBYTES + SLACK_NBYTES
        assert peak_nbytes(loader) <= bound


def test_the_first_batch_is_gathered_alone_and_later_ones_a_chunk_at_a_time(monkeypatch, plan):
    rows_at = {}
    gather_chunk = gather._gather

    def noting(source: object, indices: range, slab: object) -> int:
        rows_at[indices.start] = len(indices)
        return gather_chunk(source, indices, slab)

    monkeypatch.setattr(gather, "_gather", noting)
    with ReferenceLoader(ROWS, BATCH_SIZE, **plan) as loader:
        assert len(list(loader)) == len(loader)
        assert rows_at[0] == BATCH_SIZE
        assert max(rows_at.values()) == loader._engine.buffers.plan.chunk * BATCH_SIZE
        assert sum(rows_at.values()) == SAMPLES


def test_the_buffers_of_a_small_dataset_hold_at_most_a_third_of_an_epoch():
    few = ReferenceLoader(ROWS[: 36 * BATCH_SIZE], BATCH_SIZE, num_workers=2)
    assert few.prefetch_depth + 2 == 36 // 3


def test_batches_that_are_dropped_give_their_buffers_to_later_ones(plan):
    with ReferenceLoader(ROWS, BATCH_SIZE, shuffle=True, seed=0, **plan) as loader:
        first = addresses(loader)
        assert len(first) <= loader.prefetch_depth + 2
        assert addresses(loader) <= first


def test_held_batches_lie_in_buffers_of_their_own(plan):
    with ReferenceLoader(ROWS, BATCH_SIZE, **plan) as loader:
        assert len({batch.data_ptr() for batch in list(loader)}) == len(loader)


def test_batches_never_share_memory_with_the_source(plan):
    start, end = ROWS.ctypes.data, ROWS.ctypes.data + ROWS.nbytes
    with ReferenceLoader(ROWS, BATCH_SIZE, **plan) as loader:
        assert not any(start <= address < end for address in addresses(loader))


def test_close_frees_the_buffers(plan):
    loader = ReferenceLoader(ROWS, BATCH_SIZE, **plan)
    gc.collect()
    tracemalloc.start()
    try:
        for _batch in loader:
            pass
        del _batch
        before = tracemalloc.get_traced_memory()[0]
        loader.close()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after < BATCH_NBYTES < before


def test_a_batch_outlives_its_loader(plan):
    with ReferenceLoader(ROWS, BATCH_SIZE, **plan) as loader:
        batch = next(iter(loader))
    del loader
    gc.collect()
    assert torch.equal(batch, torch.tensor(ROWS[:BATCH_SIZE]))


class Alternates(Worth):
    """Hands over and works alone in turns, every three chunks."""

    def __init__(self):
        super().__init__()
        self.chunks = 0

    def note(self, spent_ns, size):
        self.chunks += 1
        self.hands_over = self.chunks // 3 % 2 == 0


class Alone(Worth):
    def note(self, spent_ns, size):
        self.hands_over = False


@pytest.mark.parametrize("worth", [Alternates, Alone])
@pytest.mark.parametrize("keeps", [True, False])
def test_batches_are_right_whoever_gathers_them(worth, keeps, monkeypatch):
    monkeypatch.setattr(gather, "Worth", worth)
    kept = []
    with ReferenceLoader(ROWS, BATCH_SIZE, shuffle=True, seed=0, num_workers=1) as loader:
        for _ in range(2):
            seen = []
            for batch in loader:
                seen.extend((batch[:, 0] / 512).tolist())
                kept.append((batch if keeps else None, batch[:, 0].clone()))
            assert sorted(seen) == list(range(SAMPLES))
    assert all(torch.equal(batch[:, 0], first) for batch, first in kept if batch is not None)


def test_alone_a_consumer_that_keeps_no_batch_writes_to_two_buffers(monkeypatch):
    monkeypatch.setattr(gather, "Worth", Alone)
    with ReferenceLoader(ROWS, BATCH_SIZE, seed=0, num_workers=1) as loader:
        addresses(loader)
        assert len(addresses(loader)) <= 4  # with those of the chunk that a thread gathered before
