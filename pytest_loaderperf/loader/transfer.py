"""Copy batches to a GPU, beside the consumer's work where that pays, and never from memory that is used again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch

from pytest_loaderperf.data import structure
from pytest_loaderperf.errors import DataError, LoaderPerfError

T = TypeVar("T")

STEPS_AHEAD = 2  # steps that the consumer may have queued on the device: one running, and the next
_FLAT = (bytearray, memoryview, range)  # sequences of numbers


@dataclass(frozen=True, slots=True)
class Decision:
    """``pin``: copy from page-locked memory. ``stream``: beside the consumer's work, ``ahead`` batches before asked."""

    pin: bool
    stream: bool
    ahead: int
    reason: str

    @property
    def host_batches(self) -> int:
        """Most host batches that the transfer holds at once, because the device may still read them."""
        return self.ahead + 2 if self.pin or self.stream else 1


class Event(Protocol):
    """A point in a stream's work, which may have been reached, and which this thread can wait for."""

    def query(self) -> bool: ...
    def synchronize(self) -> None: ...


class Runtime(Protocol):
    """What the stage needs of an accelerator. A leaf is a tensor or has ``to`` or ``pin_memory`` of its own.

    ``side``: within it, a stream beside the consumer's is the current one. ``pin``: the leaf in page-locked memory,
    itself where it lies there or cannot. ``copy``: the leaf on the device, in memory of the current stream, which does
    the copying. ``record``: an event after all the current stream's work so far. ``wait``: what the current stream does
    from now on comes after the event. ``keep``: once dropped, the leaf's memory stays until that stream's work is done.
    """

    def side(self) -> AbstractContextManager[object]: ...
    def pin(self, leaf: Any) -> Any: ...
    def copy(self, leaf: Any, *, non_blocking: bool) -> Any: ...
    def record(self) -> Event: ...
    def wait(self, event: Any) -> None: ...
    def keep(self, leaf: Any) -> None: ...


class CudaRuntime:
    """A CUDA device, by torch. Makes no stream before ``side``."""

    def __init__(self, device: torch.device | str = "cuda") -> None:
        index = torch.device(device).index
        self.device = torch.device("cuda", torch.cuda.current_device() if index is None else index)

    @property
    def free_nbytes(self) -> int:
        """Free bytes of the device, without those that torch's allocator keeps for other streams."""
        return torch.cuda.mem_get_info(self.device)[0]

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call] # torch's, unannotated

    def side(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def pin(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and not (leaf.is_cpu and _keepable(leaf)):
            return leaf
        there = not hasattr(leaf, "pin_memory") or (hasattr(leaf, "is_pinned") and leaf.is_pinned())
        return leaf if there else leaf.pin_memory()

    def copy(self, leaf: Any, *, non_blocking: bool) -> Any:
        return leaf.to(self.device, non_blocking=non_blocking) if hasattr(leaf, "to") else leaf

    def record(self) -> torch.cuda.Event:
        # blocking: a thread that waits for it leaves its core to the loader's workers
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call] # torch's, unannotated
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, event: Any) -> None:
        torch.cuda.current_stream(self.device).wait_event(event)

    def keep(self, leaf: Any) -> None:
        leaf.record_stream(torch.cuda.current_stream(self.device))


def pinned_nbytes(nbytes: int) -> int:
    """Bytes that ``pinned_empty`` page-locks for an array of ``nbytes``: torch's allocator takes a power of two."""
    return 1 << (nbytes - 1).bit_length() if nbytes else 0


def pinned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An uninitialised array in page-locked memory, which torch's allocator has back once no view of it is left.

    Raises LoaderPerfError where the host refuses.
    """
    try:
        tensor = torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
    except RuntimeError as error:
        nbytes = pinned_nbytes(math.prod(shape) * dtype.itemsize)
        words = f"{nbytes:,} bytes could not be page-locked: {error} Use pin_memory=False, or a smaller memory_budget."
        raise LoaderPerfError(words) from error
    array: np.ndarray = tensor.numpy()  # has no array below it: views of its views refer to it, as buffers.py expects
    return array


def map_tensors(batch: Any, function: Callable[[Any], Any]) -> Any:
    """``batch`` with ``function`` applied to its tensors, and to objects that have ``to`` or ``pin_memory``.

    Goes into mappings, sequences, namedtuples and dataclasses, and makes those anew in which something changes;
    anything else is passed on as it is.
    """
    if _is_leaf(batch):
        return function(batch)
    parts = _parts(batch)
    mapped = {key: map_tensors(part, function) for key, part in parts.items()}
    unchanged = all(mapped[key] is part for key, part in parts.items())
    return batch if unchanged else structure.rebuilt(batch, list(mapped.values()), tuples=True)


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "to") or hasattr(node, "pin_memory")


def _parts(node: Any) -> dict[Any, Any]:
    return structure.parts(node) if structure.is_container(node) and not isinstance(node, _FLAT) else {}


def leaves(batch: Any) -> list[Any]:
    """What ``map_tensors`` applies its function to."""
    return [batch] if _is_leaf(batch) else [leaf for part in _parts(batch).values() for leaf in leaves(part)]


def _keepable(leaf: Any) -> bool:
    """Whether ``Runtime.keep`` can protect it: torch can do so for dense tensors only."""
    dense = getattr(leaf, "layout", torch.strided) is torch.strided and not getattr(leaf, "is_nested", False)
    return dense and hasattr(leaf, "record_stream")


class Transfer(Generic[T]):
    """Iterates over the batches of ``source``, moved to the runtime's device as ``decision`` says.

    A batch may be dropped at any time. The stream that is current when a batch is given out may use it at once, another
    one after waiting for that. Of a host batch only the tensors are held, until they have been read: those of at most
    ``decision.host_batches``, for which ``next`` waits if it must. With ``decision.stream`` it also waits until the
    consumer's stream is no more than ``STEPS_AHEAD`` steps behind, which bounds the batches on the device. A batch with
    leaves that ``Runtime.keep`` cannot protect is not copied ahead. An exception of ``source`` re-raises at its place.
    """

    def __init__(self, source: Iterator[T], runtime: Runtime, decision: Decision) -> None:
        self._source, self._runtime, self._decision = source, runtime, decision
        self._staged: deque[tuple[T, Event | None, list[Any]]] = deque()
        self._reading: deque[tuple[Event, list[Any]]] = deque()
        self._steps: deque[Event] = deque()
        self._wanted = 0  # grows by one a call: the first batch waits for itself alone
        self._end: Any = None  # the exception to raise once the batches before it are out

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._decision.stream:
            self._steps.append(self._runtime.record())
            if len(self._steps) > STEPS_AHEAD:
                self._steps.popleft().synchronize()
        self._wanted = min(self._wanted, self._decision.ahead) + 1
        while len(self._staged) < self._wanted and self._end is None:
            self._stage()
        if not self._staged:
            try:
                raise self._end
            finally:
                self._end = None  # a source may go on after an exception
        batch, event, moved = self._staged.popleft()
        if event is None:
            return self._copied(batch)[0]
        self._runtime.wait(event)
        for leaf in moved:
            self._runtime.keep(leaf)
        return batch

    def _stage(self) -> None:
        while self._reading and self._reading[0][0].query():
            self._reading.popleft()
        self._drain(self._decision.host_batches - 1)
        try:
            batch = next(self._source)
            if self._decision.stream and all(map(_keepable, leaves(batch))):
                with self._runtime.side():
                    self._staged.append(self._copied(batch))
            else:
                self._staged.append((batch, None, []))
        except StopIteration:
            self._end = StopIteration()  # one that does not refer to this frame
        except Exception as error:  # noqa: BLE001 raised at its place
            self._end = error

    def _copied(self, batch: T) -> tuple[T, Event | None, list[Any]]:
        """The batch on the device once the event is past, and its leaves; the host memory is held until then."""
        runtime, pin, event = self._runtime, self._decision.pin, None
        host: list[Any] = []
        moved: list[Any] = []

        def move(leaf: Any) -> Any:
            host.append(runtime.pin(leaf) if pin else leaf)
            moved.append(runtime.copy(host[-1], non_blocking=pin))
            return moved[-1]

        try:
            batch = map_tensors(batch, move)
        finally:  # what was begun is read to its end, even if a later leaf fails
            if host and (pin or self._decision.stream):
                event = runtime.record()
                self._reading.append((event, host))
        return batch, event, moved

    def _drain(self, most: int = 0) -> None:
        while len(self._reading) > most:
            self._reading[0][0].synchronize()
            self._reading.popleft()

    __del__ = _drain  # an iteration left early must not free memory that is still read

    def close(self) -> None:
        """Wait until no host memory is read any more, let go of all batches, close the source. May be called twice."""
        self._drain()
        self._staged.clear()
        self._steps.clear()
        source, self._source = self._source, iter(())
        if hasattr(source, "close"):
            source.close()


def copy_into(batches: Iterable[T], static: T) -> Iterator[T]:
    """Copy every batch into the tensors of ``static``, the inputs of a captured CUDA graph, say, and yield ``static``.

    The copies go to the current stream, which must be the one that uses ``static``. Raises DataError for a batch that
    differs in structure, dtype or shape, or in a value that is no tensor; ``static`` then holds the batch before it.
    """
    places = map("batch {}".format, count())
    for batch in batches:
        _fill(static, batch, next(places))
        del batch  # not held while the consumer works, as enumerate() would
        yield static


def _fill(static: Any, batch: Any, where: str) -> None:
    for inputs, tensor in list(_pairs(static, batch, where)):
        inputs.copy_(tensor)


def _pairs(static: Any, batch: Any, where: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every tensor of ``static`` with the one at the same place in ``batch``."""
    inputs, came = _parts(static), _parts(batch)
    tensors = isinstance(static, torch.Tensor) and isinstance(batch, torch.Tensor)
    if tensors and static.dtype == batch.dtype and static.shape == batch.shape:
        yield static, batch
    elif tensors or inputs.keys() != came.keys() or not (inputs or (static == batch) is True):
        short = tensors and static.shape[1:] == batch.shape[1:] and batch.shape < static.shape
        way_out = "Leave out the short last batch: drop_last=True." if short else "Make batches alike, in collate_fn."
        words = f"{_described(static)} was expected, as in the static inputs, but {_described(batch)} came"
        raise DataError(f"{where}: {words}. {way_out}")
    for key, child in inputs.items():
        yield from _pairs(child, came[key], f"{where}[{key!r}]")


def _described(node: Any) -> str:
    if isinstance(node, torch.Tensor):
        return f"{str(node.dtype).removeprefix('torch.')} {tuple(node.shape)}"
    return f"{type(node).__name__} {[*_parts(node)] or repr(node)}"
