"""What only a GPU can show of the transfer stage: real copies, made late enough for any wrong order to be seen."""

from __future__ import annotations

import gc
import math
import types
import weakref

import numpy as np
import pytest
import torch

from pytest_loaderperf.loader.mover import CONSUMER_BATCHES, Mover, pays
from pytest_loaderperf.loader.transfer import CudaRuntime, Decision, copy_into, pinned_empty, transferred

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]
VALUES = 1 << 18  # float32: batches of 1 MiB
DELAY_CYCLES = 10_000_000  # some 5 ms of the device: far longer than a copy takes
COPY_DELAY_CYCLES = 3 * DELAY_CYCLES  # a reader that does not wait comes first
DECISIONS = [
    Decision(pin=pin, ahead=ahead, reason="")
    for pin, ahead in [(False, 0), (True, 0), (True, 1), (True, 3), (False, 2)]
]


@pytest.fixture(params=DECISIONS, ids=lambda d: f"pin={d.pin}-ahead={d.ahead}")
def decision(request):
    return request.param


class LateCopies(CudaRuntime):
    """Copies begin late: who does not wait for them reads something else, who frees their source early spoils them."""

    def copy(self, leaf):
        torch.cuda._sleep(COPY_DELAY_CYCLES)
        return super().copy(leaf)


class NeverWaits(LateCopies):
    def wait(self, event):
        pass


class NeverKeeps(CudaRuntime):
    def keep(self, leaf):
        pass


class SaysDoneTooEarly(LateCopies):
    def record(self):
        event = super().record()
        return types.SimpleNamespace(query=lambda: True, synchronize=lambda: None, recorded=event)

    def wait(self, event):
        super().wait(event.recorded)


class Ring:
    """Batches in page-locked buffers, each written again once no tensor of it is left, as the loader's are."""

    def __init__(self, count):
        self.count, self.given, self.slots = count, 0, []

    def __next__(self):
        if self.given == self.count:
            raise StopIteration
        slot = next((slot for slot in self.slots if slot.tensor() is None), None)
        if slot is None:
            slot = types.SimpleNamespace(array=pinned_empty((VALUES,), np.dtype(np.float32)))
            self.slots.append(slot)
        slot.array.fill(self.given)
        tensor = torch.from_numpy(slot.array)
        slot.tensor = weakref.ref(tensor)
        self.given += 1
        return {"x": tensor, "name": str(self.given - 1)}

    def close(self):
        for slot in self.slots:
            if slot.tensor() is None:
                slot.array.fill(math.nan)


def extremes(runtime, decision, count, streams):
    """Least and greatest value of every batch, read late on the device, each batch dropped before it is read."""
    source = Ring(12)
    batches = transferred(source, runtime, decision)
    seen = torch.full((count, 2), -1.0, device="cuda")
    torch.cuda.synchronize()
    for index in range(count):
        with torch.cuda.stream(streams[index % len(streams)]):
            batch = next(batches)
            assert batch["x"].is_cuda
            assert batch["name"] == str(index)
            torch.cuda._sleep(DELAY_CYCLES)
            seen[index, 0] = batch["x"].amin()
            seen[index, 1] = batch["x"].amax()
            del batch
    batches.close()
    source.close()
    torch.cuda.synchronize()
    return seen.tolist()


def wanted(count):
    return [[float(i)] * 2 for i in range(count)]


@pytest.mark.parametrize("make", [CudaRuntime, LateCopies])
@pytest.mark.parametrize("others", [0, 2])
def test_every_batch_arrives_right_though_it_is_dropped_early_and_read_late(decision, make, others):
    streams = [torch.cuda.Stream() for _ in range(others)] or [torch.cuda.current_stream()]
    assert extremes(make(), decision, 12, streams) == wanted(12)


@pytest.mark.parametrize("count", [1, 3])
def test_closing_in_mid_flight_spoils_no_batch_that_was_given_out(decision, count):
    assert extremes(LateCopies(), decision, count, [torch.cuda.current_stream()]) == wanted(count)


@pytest.mark.parametrize("broken", [NeverWaits, NeverKeeps, SaysDoneTooEarly])
def test_these_tests_see_what_a_stage_without_this_step_would_corrupt(broken):
    ahead = Decision(pin=True, ahead=2, reason="")
    assert extremes(broken(), ahead, 12, [torch.cuda.current_stream()]) != wanted(12)


def test_an_iteration_that_is_dropped_waits_for_its_copies():
    source = Ring(12)
    batches = transferred(source, LateCopies(), Decision(pin=True, ahead=2, reason=""))
    batch = [next(batches) for _ in range(3)][-1]
    del batches
    source.close()
    assert set(batch["x"].tolist()) == {2.0}


def test_copies_run_while_the_host_goes_on_and_read_page_locked_memory():
    runtime = LateCopies()
    host = torch.from_numpy(pinned_empty((4, VALUES), np.dtype(np.float32))[1:3][:1])
    assert host.is_pinned()
    assert runtime.pin(host) is host
    with runtime.side():
        runtime.copy(host)
        event = runtime.record()
    assert not event.query()
    event.synchronize()
    assert event.query()


def test_a_batch_of_ordinary_memory_is_page_locked_first():
    pinned = CudaRuntime().pin(torch.ones(VALUES))
    assert pinned.is_pinned()
    packed = CudaRuntime().pin(torch.nn.utils.rnn.pack_sequence([torch.ones(3)]))
    assert packed.data.is_pinned()


def test_sequences_sparse_tensors_and_what_lies_on_the_device_arrive(decision):
    there = torch.ones(2, device="cuda")
    packed = torch.nn.utils.rnn.pack_sequence([torch.arange(3.0), torch.arange(2.0)])
    batch = {"p": packed, "s": torch.eye(2).to_sparse(), "d": there, "n": None}
    (came,) = transferred(iter([batch]), CudaRuntime(), decision)
    assert came["p"].data.is_cuda
    assert came["p"].batch_sizes.is_cpu
    assert came["s"].is_cuda
    assert torch.equal(came["s"].to_dense().cpu(), torch.eye(2))
    assert came["d"] is there
    assert came["n"] is None


def test_a_captured_graph_works_on_every_batch_in_turn(decision):
    static = {"x": torch.zeros(VALUES, device="cuda")}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.cuda._sleep(DELAY_CYCLES)
        doubled = static["x"] * 2
    seen = []
    for given in copy_into(transferred(without_names(Ring(8)), LateCopies(), decision), static):
        assert given is static
        graph.replay()
        seen.append(torch.stack([doubled.amin(), doubled.amax()]))
    assert [pair.tolist() for pair in seen] == [[2.0 * i] * 2 for i in range(8)]


def without_names(ring):
    while ring.given < ring.count:
        yield {"x": next(ring)["x"]}


@pytest.mark.skipif(not hasattr(torch.cuda, "host_memory_stats"), reason="this torch does not count pinned memory")
def test_page_locked_memory_is_given_back_after_close(decision):
    def active_nbytes():
        gc.collect()
        torch.cuda.synchronize()
        torch.empty(1, pin_memory=True)  # lets torch's allocator look which blocks are no longer read
        return torch.cuda.host_memory_stats()["active_bytes.current"]

    before = active_nbytes()
    source = Ring(12)
    batches = transferred(source, LateCopies(), decision)
    next(batches)
    held = active_nbytes()
    batches.close()
    del batches, source
    assert active_nbytes() == before < held


@pytest.mark.parametrize("in_ring", [True, False])
def test_times_are_measured_and_page_locked_memory_is_found(in_ring):
    assert pays(CudaRuntime(), 8 << 20, in_ring=in_ring)[1].startswith("a batch of 8,388,608 bytes takes ")


def test_the_decision_follows_the_free_memory_of_the_device():
    runtime = CudaRuntime()
    free = runtime.free_nbytes
    assert 0 < free <= torch.cuda.get_device_properties(runtime.device).total_memory

    def ahead(nbytes):
        made = Mover("cuda", memory_budget=None, pin_memory=True)
        return made._decide(torch.empty(nbytes, dtype=torch.uint8, device="meta"), None).ahead

    assert ahead(1 << 20)
    assert not ahead(free // 16)


def test_batches_on_the_device_take_no_more_than_was_decided():
    decision = Decision(pin=True, ahead=2, reason="")
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["active_bytes.all.current"]
    for batch in transferred(without_names(Ring(40)), CudaRuntime(), decision):
        torch.cuda._sleep(DELAY_CYCLES)
        batch["x"].add_(1)
    most = torch.cuda.memory_stats()["active_bytes.all.peak"] - before
    assert most <= (decision.ahead + CONSUMER_BATCHES) * VALUES * 4
