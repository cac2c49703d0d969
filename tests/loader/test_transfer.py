"""The transfer stage's order of events and life of memory, on simulated streams: no GPU has a part in this."""

from __future__ import annotations

import gc
import types
import weakref
from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data.arrays import structure
from pytest_loaderperf.errors import DataError, LoaderPerfError
from pytest_loaderperf.loader import transfer as transfer_module
from pytest_loaderperf.loader.mover import CONSUMER_BATCHES
from pytest_loaderperf.loader.transfer import (
    CudaRuntime,
    Decision,
    copy_into,
    leaves,
    map_tensors,
    pinned_empty,
    pinned_nbytes,
    transferred,
)

PLAIN = Decision(pin=False, ahead=0, reason="")
PINNED = Decision(pin=True, ahead=0, reason="")
AHEAD = [Decision(pin=True, ahead=ahead, reason="") for ahead in (1, 2, 5)]
DECISIONS = [PLAIN, PINNED, *AHEAD]
GARBAGE = -1


@pytest.fixture(params=DECISIONS, ids=lambda d: f"pin={d.pin}-ahead={d.ahead}")
def decision(request):
    return request.param


class Mark:
    """An event of the simulated device."""

    def __init__(self, device):
        self.device, self.reached = device, False

    def query(self):
        self.device.run(self.device.random.randrange(3))
        return self.reached

    def synchronize(self):
        self.device.beside()
        while not self.reached:
            assert self.device.step(), "waits for work that never comes"


class Device:
    """Streams whose work is done in order, but at moments that chance picks, and a pool of memory for each."""

    def __init__(self, seed=0):
        self.random, self.current = Random(seed), "main"  # noqa: S311 nothing secret
        self.work = {name: deque() for name in ("main", "other", "side")}
        self.pools = {name: [] for name in self.work}
        self.blocks = 0
        self.beside = lambda: None  # what the loader's workers do while this thread waits

    def enqueue(self, work=lambda: None, when=lambda: True, stream=None):
        self.work[stream or self.current].append((when, work))

    def step(self):
        able = [queue for queue in self.work.values() if queue and queue[0][0]()]
        if able:
            self.random.choice(able).popleft()[1]()
        return bool(able)

    def run(self, steps=None):
        while steps != 0 and self.step():
            steps = None if steps is None else steps - 1

    @contextmanager
    def side(self):
        before, self.current = self.current, "side"
        try:
            yield
        finally:
            self.current = before

    def pin(self, leaf):
        return leaf

    def copy(self, leaf):
        pool = self.pools[self.current]
        self.blocks += not pool
        moved = Moved(self, pool.pop() if pool else types.SimpleNamespace(value=GARBAGE))
        slot, block = leaf.slot, moved.block
        self.enqueue(lambda: setattr(block, "value", slot.value))
        return moved

    def record(self):
        mark = Mark(self)
        self.enqueue(lambda: setattr(mark, "reached", True))
        return mark

    def wait(self, event):
        self.enqueue(when=lambda: event.reached)

    def keep(self, leaf):
        leaf.users.add(self.current)


class Moved:
    """A tensor on the simulated device: its memory goes back to the stream it is from, after its users' work."""

    def __init__(self, device, block):
        self.device, self.block, self.users, self.owner = device, block, set(), device.current

    def to(self):
        raise AssertionError("it is there already")

    def __del__(self):
        pool, block, users = self.device.pools[self.owner], self.block, self.users - {self.owner}

        def done(user):
            users.discard(user)
            if not users:
                pool.append(block)

        for user in tuple(users):
            self.device.enqueue(lambda user=user: done(user), stream=user)
        if not users:
            pool.append(block)


class Host:
    """A tensor in a slot of the ring, which is written again once this object is gone."""

    def __init__(self, slot):
        self.slot = slot

    def to(self):
        raise AssertionError("the runtime copies")

    def record_stream(self):
        raise AssertionError("the runtime keeps")


class Opaque:
    """The same, but the allocator cannot be told who uses it."""

    def __init__(self, slot):
        self.slot = slot

    to = Host.to


class Ring:
    """Gives ``count`` batches, each from a slot that nothing refers to any more."""

    def __init__(self, count, kind=Host):
        self.count, self.kind, self.slots, self.given = count, kind, [], 0

    def free(self):
        return (slot for slot in self.slots if slot.leaf() is None)

    def __next__(self):
        if self.given == self.count:
            raise StopIteration
        slot = next(self.free(), None)
        if slot is None:
            slot = types.SimpleNamespace()
            self.slots.append(slot)
        slot.value = self.given
        leaf = self.kind(slot)
        slot.leaf = weakref.ref(leaf)
        self.given += 1
        return {"x": leaf, "name": str(slot.value)}

    def reuse(self):
        for slot in self.free():
            slot.value = GARBAGE


def consume(device, source, decision, *, stop=None, hold=0, streams=("main",), ending="close"):
    """Read every batch by a few kernels on the stream it came to, and drop it at some time; what the kernels saw."""
    batches, held, seen, random = transferred(source, device, decision), deque(), [], device.random
    device.beside = source.reuse
    index = 0
    while index != stop:
        device.current = random.choice(streams)
        batch = next(batches, None)
        if batch is None:
            break
        assert batch["name"] == str(index)
        for _ in range(random.randrange(1, 4)):
            device.enqueue(lambda block=batch["x"].block, index=index: seen.append((index, block.value)))
        held.append(batch)
        while len(held) > random.randint(0, hold):
            held.popleft()
        device.run(random.randrange(12))
        index += 1
        del batch
    if ending == "close":
        batches.close()
    del batches
    source.reuse()
    device.run()
    return seen


def right(seen, count):
    return all(index == value for index, value in seen) and {index for index, _ in seen} == set(range(count))


@given(
    seed=st.integers(0, 1 << 32),
    decision=st.sampled_from(DECISIONS),
    count=st.integers(0, 20),
    stop=st.integers(1, 20),
    hold=st.integers(0, 4),
    streams=st.sampled_from([("main",), ("main", "other")]),
    ending=st.sampled_from(["close", "dropped"]),
    kind=st.sampled_from([Host, Opaque]),
)
@settings(max_examples=300, deadline=None)
def test_kernels_see_their_batch_whenever_device_and_consumer_run(seed, decision, count, kind, stop, **habits):
    assert right(consume(Device(seed), Ring(count, kind), decision, stop=stop, **habits), min(count, stop))


class NeverKeeps(Device):
    def keep(self, leaf):
        pass


class NeverWaits(Device):
    def wait(self, event):
        pass


class SaysDoneTooEarly(Device):
    def record(self):
        return types.SimpleNamespace(query=lambda: True, synchronize=lambda: None, reached=super().record())

    def wait(self, event):
        super().wait(event.reached)


@pytest.mark.parametrize("broken", [NeverKeeps, NeverWaits, SaysDoneTooEarly])
@pytest.mark.parametrize("stop", [None, 3])
def test_the_simulation_notices_what_a_stage_without_this_step_would_corrupt(broken, stop):
    seen = [consume(broken(seed), Ring(8), AHEAD[1], stop=stop) for seed in range(60)]
    assert not all(right(one, 8 if stop is None else stop) for one in seen)


@pytest.mark.parametrize("seed", range(20))
def test_host_batches_in_flight_are_bounded_as_decided(decision, seed):
    source = Ring(30)
    consume(Device(seed), source, decision)
    assert len(source.slots) <= decision.ahead + 2


def test_host_memory_that_has_been_read_is_let_go_before_the_bound_is_reached():
    device, source = Device(), Ring(9)
    for _ in transferred(source, device, PINNED):
        device.run()
    assert len(source.slots) == 1


@pytest.mark.parametrize("decision", AHEAD, ids=lambda d: f"ahead={d.ahead}")
def test_batches_on_the_device_are_bounded_though_the_consumer_queues_its_work_without_waiting(decision):
    most = 0
    for seed in range(40):
        device = Device(seed)
        consume(device, Ring(30), decision, hold=1)
        most = max(most, device.blocks)
    assert most == decision.ahead + CONSUMER_BATCHES


class Log:
    """Notes the verbs in their order; leaves are small lists of one name."""

    def __init__(self):
        self.lines, self.events = [], 0

    @contextmanager
    def side(self):
        self.lines.append("side {")
        yield
        self.lines.append("}")

    def pin(self, leaf):
        self.lines.append(f"pin {leaf.name}")
        return leaf

    def copy(self, leaf):
        self.lines.append(f"copy {leaf.name}")
        return Named(leaf.name.upper())

    def record(self):
        self.events += 1
        self.lines.append(f"record {self.events}")
        return Logged(self, self.events)

    def wait(self, event):
        self.lines.append(f"wait {event.number}")

    def keep(self, leaf):
        self.lines.append(f"keep {leaf.name}")


@dataclass
class Logged:
    log: Log
    number: int
    done: bool = False

    def query(self):
        return self.done

    def synchronize(self):
        self.log.lines.append(f"synchronize {self.number}")


@dataclass
class Named:
    name: str

    def to(self):
        raise AssertionError("the runtime copies")

    record_stream = to


def logged(decision, names, take):
    log = Log()

    def source():
        for name in names:
            log.lines.append(f"fetch {name}")
            yield [Named(name)]

    batches = transferred(source(), log, decision)
    for _ in range(take):
        log.lines.append(f"given {next(batches)[0].name}")
    batches.close()
    return log.lines


def test_the_order_of_pageable_copies():
    assert logged(PLAIN, "abc", 3) == [
        *("fetch a", "copy a", "record 1", "given A"),
        *("fetch b", "copy b", "record 2", "given B"),
        *("synchronize 1", "fetch c", "copy c", "record 3", "given C"),
        *("synchronize 2", "synchronize 3"),  # close()
    ]


def test_the_order_of_page_locked_copies_on_the_consumers_stream():
    assert logged(PINNED, "ab", 2) == [
        *("fetch a", "pin a", "copy a", "record 1", "given A"),
        *("fetch b", "pin b", "copy b", "record 2", "given B"),
        *("synchronize 1", "synchronize 2"),  # close()
    ]


def test_the_order_of_copies_ahead_on_a_stream_of_their_own():
    assert logged(AHEAD[0], "abcd", 3) == [
        *("fetch a", "side {", "pin a", "copy a", "record 1", "}"),
        "record 2",  # the consumer's work so far
        *("wait 1", "keep A", "given A"),
        *("fetch b", "side {", "pin b", "copy b", "record 3", "}"),
        *("fetch c", "side {", "pin c", "copy c", "record 4", "}"),
        *("record 5", "wait 3", "keep B", "given B"),
        *("synchronize 2", "synchronize 1"),  # the consumer's work before A, and the copy of A
        *("fetch d", "side {", "pin d", "copy d", "record 6", "}"),
        *("record 7", "wait 4", "keep C", "given C"),
        *("synchronize 3", "synchronize 4", "synchronize 6"),  # close()
    ]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_first_batch_waits_for_itself_alone_and_no_more_than_ahead_are_fetched_early(ahead):
    source = Ring(20)
    batches = transferred(source, Device(), Decision(pin=True, ahead=ahead, reason=""))
    fetched = [source.given - i for i, _ in enumerate(batches, 1)]
    assert fetched[: ahead + 2] == [*range(ahead + 1), ahead]
    assert max(fetched) == ahead


def test_the_stream_of_a_batch_is_the_one_current_when_it_is_given_out():
    device = Device()
    batches = transferred(Ring(4), device, AHEAD[1])
    users = []
    for device.current in ("main", "other", "other", "main"):
        users.append(next(batches)["x"].users)
    assert users == [{"main"}, {"other"}, {"other"}, {"main"}]


def test_what_the_allocator_cannot_protect_is_copied_on_the_stream_that_gets_it():
    device = Device()
    batches = transferred(Ring(3, Opaque), device, AHEAD[1])
    assert [batch["x"].owner for batch in batches] == ["main"] * 3
    assert device.pools["side"] == []


def test_an_empty_source_ends_at_once_and_again(decision):
    batches = transferred(Ring(0), Device(), decision)
    assert [list(batches), list(batches)] == [[], []]


class Failing(Ring):
    """Raises KeyError in place of one batch."""

    def __init__(self, count, bad):
        super().__init__(count)
        self.bad = bad

    def __next__(self):
        if self.given == self.bad:
            self.bad = None
            raise KeyError("bad")
        return super().__next__()


@pytest.mark.parametrize("bad", [0, 1, 4])
def test_an_exception_of_the_source_comes_after_the_batches_before_it(decision, bad):
    batches = transferred(Failing(5, bad), Device(1), decision)
    assert [next(batches)["name"] for _ in range(bad)] == list("01234")[:bad]
    with pytest.raises(KeyError, match="bad"):
        next(batches)


def test_an_exception_of_a_copy_comes_at_its_place_when_no_host_memory_is_read_any_more():
    class Full(Device):
        def copy(self, leaf):
            if leaf.slot.value == 2 and not isinstance(leaf, First):
                raise MemoryError("full")
            return super().copy(leaf)

    class First(Host):
        pass

    class Two(Ring):
        def __next__(self):
            batch = super().__next__()
            leaf = First(batch["x"].slot)
            leaf.slot.leaf = weakref.ref(leaf)  # the slot is in use as long as this one is
            return {"first": leaf, **batch}

    device, source = Full(), Two(4)
    batches = transferred(source, device, AHEAD[1])
    assert [next(batches)["name"], next(batches)["name"]] == ["0", "1"]
    bad = next(slot for slot in source.slots if slot.value == 2)
    assert bad.leaf() is not None  # the copy of its other half may be under way
    with pytest.raises(MemoryError, match="full"):
        next(batches)
    assert not device.work["side"]


def test_an_exception_of_a_copy_on_the_consumers_stream_comes_to_the_consumer():
    class Full(Device):
        def copy(self, leaf):
            raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        next(transferred(Ring(1), Full(), PLAIN))


def test_the_sources_exception_does_not_keep_the_iteration_alive():
    batches = transferred(Failing(3, 1), Device(), AHEAD[1])
    next(batches)
    gone = weakref.ref(batches)
    gc.disable()
    try:
        with pytest.raises(KeyError):
            next(batches)
        del batches
        assert gone() is None
    finally:
        gc.enable()


def test_close_waits_for_the_copies_under_way_and_may_be_called_twice(decision):
    device, source = Device(), Ring(9)
    batches = transferred(source, device, decision)
    kept = [next(batches) for _ in range(3)][-1]
    batches.close()
    assert [slot.leaf() for slot in source.slots] == [None] * len(source.slots)
    assert not device.work["side"]
    source.reuse()
    device.run()
    assert kept["x"].block.value == 2
    batches.close()
    assert list(batches) == []
    assert sum(map(len, device.pools.values())) == device.blocks - 1  # only the one that is kept


def test_closing_before_the_first_batch_fetches_none(decision):
    source = Ring(9)
    transferred(source, Device(), decision).close()
    assert source.given == 0


def test_after_an_epoch_all_memory_of_the_device_is_free_again(decision):
    device = Device(5)
    consume(device, Ring(12), decision)
    assert sum(map(len, device.pools.values())) == device.blocks


# Structures


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain kind that users have


@dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    size: int = field(default=3, init=False)


@dataclass
class Counting:
    x: torch.Tensor
    made: int = 0

    def __post_init__(self):
        self.made += 1


class Numbers(Mapping):
    """A mapping that cannot be changed, as torch's tests have it."""

    def __init__(self, entries):
        self.entries = dict(entries)

    def __getitem__(self, key):
        return self.entries[key]

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)


class Steps(Sequence):
    def __init__(self, *entries):
        self.entries = entries[0] if len(entries) == 1 else entries

    def __getitem__(self, index):
        return self.entries[index]

    def __len__(self):
        return len(self.entries)


class Stubborn(Numbers):
    def __init__(self, one, two):
        super().__init__({"a": one, "b": two})


class Remembering(dict):
    pass


X, Y = torch.arange(3), torch.arange(4.0)


def doubled(batch):
    return map_tensors(batch, lambda leaf: leaf * 2)


@pytest.mark.parametrize(
    "batch",
    [
        {"a": X, "b": Y},
        [X, Y],
        (X, Y),
        Point(X, Y),
        OrderedDict(a=X, b=Y),
        defaultdict(list, a=X, b=Y),
        UserDict(a=X, b=Y),
        UserList([X, Y]),
        deque([X, Y]),
        types.MappingProxyType({"a": X, "b": Y}),
        Numbers({"a": X, "b": Y}),
        Steps([X, Y]),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_containers_keep_their_type_and_the_given_one_stays_as_it_was(batch):
    before = list(structure.parts(batch).values())
    made = doubled(batch)
    assert type(made) is type(batch)
    after = structure.parts(made)
    assert list(after) == list(structure.parts(batch))
    assert [torch.equal(new, 2 * old) for new, old in zip(after.values(), before, strict=True)] == [True, True]
    assert all(now is old for now, old in zip(structure.parts(batch).values(), before, strict=True))


def test_dataclasses_are_copied_without_making_them_again():
    assert doubled(Frozen(X)).x.tolist() == [0, 2, 4]
    assert doubled(Counting(X)).made == 1


def test_a_container_keeps_what_else_it_holds():
    batch = Remembering(a=X)
    batch.source = "disk"
    assert doubled(batch).source == "disk"


def test_a_container_that_cannot_be_made_from_its_entries_becomes_a_plain_one():
    made = doubled(Stubborn(X, Y))
    assert type(made) is dict
    assert torch.equal(made["b"], 2 * Y)


def test_nested_structures_are_mapped_to_their_leaves():
    made = doubled({"a": [X, (Point(Y, None), "s")], "f": Frozen({"x": X})})
    assert made["a"][1][0].x.tolist() == [0, 2, 4, 6]
    assert made["f"].x["x"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    "thing",
    [
        *("text", b"bytes", 3, 2.5, None, True, range(3), np.arange(3), memoryview(b"ab")),
        *({}, [], (), {"a": ["b", (1, None)]}, object(), Frozen),
    ],
    ids=lambda made: type(made).__name__,
)
def test_what_holds_no_tensor_is_passed_on_as_it_is(thing):
    assert doubled(thing) is thing


def test_objects_with_methods_of_their_own_are_leaves_even_if_they_are_containers():
    packed = torch.nn.utils.rnn.pack_sequence([torch.arange(3.0), torch.arange(2.0)])

    class Pinnable(dict):
        def pin_memory(self):
            return "pinned"

    leaves = []
    map_tensors([packed, {"p": Pinnable(a=X)}], lambda leaf: leaves.append(leaf) or leaf)
    assert [type(leaf) for leaf in leaves] == [type(packed), Pinnable]


class Custom:
    """A batch object as torch's documentation has it, that can also say where it lies."""

    def __init__(self, where="host", **methods):
        self.where = where
        self.calls = []
        for name, result in methods.items():
            setattr(self, name, lambda *args, _result=result, **kwargs: self.note(args, kwargs, _result))

    def note(self, args, kwargs, result):
        self.calls.append((args, kwargs))
        return result


def test_an_object_pins_and_moves_itself():
    custom = Custom(pin_memory="pinned", to="moved")
    runtime = CudaRuntime("cuda:1")
    assert runtime.pin(custom) == "pinned"
    assert runtime.copy(custom) == "moved"
    assert custom.calls == [((), {}), ((torch.device("cuda:1"),), {"non_blocking": True})]


@pytest.mark.parametrize(
    "leaf",
    [
        Custom(to="moved"),
        torch.empty(2, device="meta"),
        torch.eye(2).to_sparse(),
    ],
    ids=["has no way", "elsewhere", "sparse"],
)
def test_what_cannot_be_pinned_is_left(leaf):
    assert CudaRuntime("cuda:0").pin(leaf) is leaf


def test_an_object_that_can_only_be_pinned_is_not_moved():
    custom = Custom(pin_memory="pinned")
    assert CudaRuntime("cuda:0").copy(custom) is custom


@pytest.mark.parametrize(
    "batch, keepable",
    [
        ({"a": X, "b": ["text", 3, None]}, True),
        ({"a": X, "b": torch.eye(2).to_sparse()}, False),
        ((X, torch.nn.utils.rnn.pack_sequence([Y])), False),
        ([Custom(to=1)], False),
        ([Custom(to=1, record_stream=2)], True),
        ({}, True),
    ],
)
def test_only_dense_tensors_and_objects_that_say_so_can_be_protected_on_another_stream(batch, keepable):
    assert all(map(transfer_module._keepable, leaves(batch))) == keepable


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_cannot(layout):
    nested = torch.nested.nested_tensor([X, X], layout=layout)
    assert not transfer_module._keepable(nested)
    assert CudaRuntime("cuda:0").pin(nested) is nested


# Static inputs


def test_every_batch_is_copied_into_the_same_tensors():
    static = {"x": torch.zeros(2, 3), "pair": (torch.zeros(2), None), "kind": "train"}
    rows = [torch.full((2, 3), float(i)) for i in range(4)]
    batches = [{"x": row, "pair": (row[:, 0], None), "kind": "train"} for row in rows]
    came = [(given is static, given["x"].clone(), given["pair"][0].clone()) for given in copy_into(batches, static)]
    assert [x.tolist() for _, x, _ in came] == [row.tolist() for row in rows]
    assert [y.tolist() for _, _, y in came] == [row[:, 0].tolist() for row in rows]
    assert all(same for same, _, _ in came)


def test_the_order_of_keys_does_not_matter():
    static = {"x": torch.zeros(2), "y": torch.zeros(2)}
    next(copy_into([{"y": torch.ones(2), "x": torch.full((2,), 5.0)}], static))
    assert static["x"].tolist() == [5, 5]


def test_a_batch_is_dropped_before_the_consumer_works():
    gone = []

    def batches():
        for i in range(2):
            yield note(torch.full((2,), float(i)))

    def note(batch):
        gone.append(weakref.ref(batch))
        return batch

    for _ in copy_into(batches(), torch.zeros(2)):
        assert gone[-1]() is None


FULL = {"x": torch.zeros(4, 2), "y": [torch.zeros(4, dtype=torch.int64)]}
ALIKE = "Make batches alike, in collate_fn; drop_last=True leaves out a short one."
STATIC = "as in the static inputs"


@pytest.mark.parametrize(
    "static, batch, words",
    [
        (
            FULL,
            {"x": torch.ones(3, 2), "y": [torch.ones(3, dtype=torch.int64)]},
            f"batch 1['x']: float32 (4, 2) was expected, {STATIC}, got float32 (3, 2). {ALIKE}",
        ),
        (
            FULL,
            {"x": torch.ones(4, 3), "y": FULL["y"]},
            f"batch 1['x']: float32 (4, 2) was expected, {STATIC}, got float32 (4, 3). {ALIKE}",
        ),
        (
            FULL,
            {"x": torch.ones(5, 2), "y": FULL["y"]},
            f"batch 1['x']: float32 (4, 2) was expected, {STATIC}, got float32 (5, 2). {ALIKE}",
        ),
        (
            FULL,
            {"x": torch.ones(4, 2), "y": [torch.ones(4)]},
            f"batch 1['y'][0]: int64 (4,) was expected, {STATIC}, got float32 (4,). {ALIKE}",
        ),
        (
            FULL,
            {"x": torch.ones(4, 2), "z": FULL["y"]},
            f"batch 1: dict ['x', 'y'] was expected, {STATIC}, got dict ['x', 'z']. {ALIKE}",
        ),
        (
            FULL,
            {"x": torch.ones(4, 2), "y": []},
            f"batch 1['y']: list [0] was expected, {STATIC}, got list []. {ALIKE}",
        ),
        (
            FULL,
            torch.ones(4, 2),
            f"batch 1: dict ['x', 'y'] was expected, {STATIC}, got float32 (4, 2). {ALIKE}",
        ),
        (
            torch.zeros(2),
            None,
            f"batch 1: float32 (2,) was expected, {STATIC}, got NoneType None. {ALIKE}",
        ),
        (
            [torch.zeros(2), "a"],
            [torch.ones(2), "b"],
            f"batch 1[1]: str 'a' was expected, {STATIC}, got str 'b'. {ALIKE}",
        ),
        (
            [torch.zeros(2), "a"],
            [torch.ones(2), torch.ones(2)],
            f"batch 1[1]: str 'a' was expected, {STATIC}, got float32 (2,). {ALIKE}",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_the_static_inputs_keep_the_one_before(static, batch, words):
    first = map_tensors(static, lambda tensor: torch.full_like(tensor, 7))
    static = map_tensors(static, torch.clone)
    given = copy_into([first, batch], static)
    next(given)
    with pytest.raises(DataError) as caught:
        next(given)
    assert str(caught.value) == words
    held = []
    map_tensors(static, lambda tensor: held.append(set(tensor.flatten().tolist())) or tensor)
    assert all(values == {7} for values in held)


# Page-locked memory


@pytest.mark.parametrize(
    "nbytes, locked", [(0, 0), (1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192), (1 << 40, 1 << 40)]
)
def test_torch_page_locks_a_power_of_two(nbytes, locked):
    assert pinned_nbytes(nbytes) == locked


def test_a_host_that_refuses_to_page_lock_is_named_with_the_way_out(monkeypatch):
    def empty(*args, **kwargs):
        raise RuntimeError("out of it.")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(LoaderPerfError) as caught:
        pinned_empty((3, 5), np.dtype(np.float32))
    assert (
        str(caught.value)
        == "64 bytes could not be page-locked: out of it. Use pin_memory=False, or a smaller memory_budget."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host can page-lock")
def test_without_an_accelerator_no_memory_can_be_page_locked():
    with pytest.raises(LoaderPerfError, match="8 bytes could not be page-locked: "):
        pinned_empty((2,), np.dtype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "uint16", "bool", "complex64", "int64"])
def test_views_of_views_of_the_buffer_refer_to_the_array_that_was_given(monkeypatch, dtype):
    """buffers.Slab counts references to that array, and would not see any to one below it."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, *, dtype, pin_memory: empty(shape, dtype=dtype))
    array = pinned_empty((6, 2), np.dtype(dtype))
    assert (array.shape, array.dtype) == ((6, 2), np.dtype(dtype))
    assert array[2:4][:1].base is array
    array[:] = 1
    assert torch.from_numpy(array[2:]).sum() == 8
