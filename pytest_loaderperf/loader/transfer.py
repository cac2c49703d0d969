"""Copy batches to a GPU, beside the consumer's work where that pays, and never from memory that is used again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice, starmap
from typing import Any, TypeVar

import numpy as np
import torch

from pytest_loaderperf.data.arrays import structure
from pytest_loaderperf.errors import DataError, LoaderPerfError

T = TypeVar("T")
_Pending = tuple[torch.cuda.Event, list[Any]]  # an event, and what must live until then

STEPS_AHEAD = 2  # steps that the consumer may have queued on the device: one running, and the next


@dataclass(frozen=True, slots=True)
class Decision:
    """``pin``: copy from page-locked memory. ``ahead``: batches copied before asked for, on a stream; 0: no stream."""

    pin: bool
    ahead: int
    reason: str


class CudaRuntime:
    """What the stage needs of a device, by torch. A leaf is a tensor or has ``to`` or ``pin_memory`` of its own."""

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
        """Within it, a stream beside the consumer's is the current one; the first call makes it."""
        return torch.cuda.stream(self._stream)

    def pin(self, leaf: Any) -> Any:
        """The leaf in page-locked memory, itself where it lies there or cannot. Raises RuntimeError where refused."""
        can = leaf.is_cpu and _keepable(leaf) if isinstance(leaf, torch.Tensor) else hasattr(leaf, "pin_memory")
        return leaf.pin_memory() if can else leaf

    def copy(self, leaf: Any) -> Any:
        """The leaf on the device, in memory of the current stream, which may copy it later."""
        return leaf.to(self.device, non_blocking=True) if hasattr(leaf, "to") else leaf

    def record(self) -> torch.cuda.Event:
        """An event after all the current stream's work so far."""
        # blocking: a thread that waits for it leaves its core to the loader's workers
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call] # torch's, unannotated
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, event: Any) -> None:
        """Let what the current stream does from now on come after ``event``."""
        torch.cuda.current_stream(self.device).wait_event(event)

    def keep(self, leaf: Any) -> None:
        """Once the leaf is dropped, its memory stays until the current stream's work up to then is done."""
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
    return tensor.numpy()  # has no array below it: views of its views refer to it, as buffers.py expects


def map_tensors(batch: Any, function: Callable[[Any], Any]) -> Any:
    """``batch`` with ``function`` applied to its tensors, and to objects that have ``to`` or ``pin_memory``.

    Goes into mappings, sequences, namedtuples and dataclasses, and makes those anew in which something changes;
    anything else is passed on as it is.
    """
    return structure.mapped(batch, function, _is_leaf)


def leaves(batch: Any) -> list[Any]:
    """What ``map_tensors`` applies its function to."""
    return [batch] if _is_leaf(batch) else [leaf for part in _parts(batch).values() for leaf in leaves(part)]


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "to") or hasattr(node, "pin_memory")


def _parts(node: Any) -> dict[Any, Any]:
    return structure.parts(node) if structure.is_nest(node) else {}


def _keepable(leaf: Any) -> bool:
    """Whether ``CudaRuntime.keep`` can protect it: torch can do so for dense tensors only."""
    dense = getattr(leaf, "layout", torch.strided) is torch.strided and not getattr(leaf, "is_nested", False)
    return dense and hasattr(leaf, "record_stream")


def transferred(source: Iterator[T], runtime: CudaRuntime, decision: Decision) -> Generator[T, None, None]:
    """The batches of ``source``, which stays the caller's to close, on the runtime's device.

    A batch may be dropped at any time. The stream that is current when a batch is given out may use it at once, another
    one after waiting for that. Of a host batch only the leaves are held, until they have been read: those of at most
    ``decision.ahead + 2`` batches, for which ``next`` waits if it must; the end, ``close`` and being dropped wait for
    all. Copying ahead, it also waits until the consumer's stream is at most ``STEPS_AHEAD`` steps behind, which bounds
    the batches on the device. A batch with leaves that ``CudaRuntime.keep`` cannot protect is not copied ahead.
    """
    reading: deque[_Pending] = deque()  # each with the leaves that are read until then
    steps: deque[_Pending] = deque()  # each after a step of the consumer's

    def copied(batch: T) -> tuple[T, Any]:
        host = map_tensors(batch, runtime.pin) if decision.pin else batch
        try:
            moved = map_tensors(host, runtime.copy)
        finally:  # what was begun is read to its end, even if a later leaf fails
            reading.append((runtime.record(), leaves(host)))
        return moved, reading[-1][0]

    def fetched() -> tuple[T, Any]:
        """The next batch, and the event after its copy; None: it is yet to be copied."""
        _wait(steps, STEPS_AHEAD - 1)
        _wait(reading, decision.ahead + 1)
        batch = next(source)
        if not decision.ahead or not all(map(_keepable, leaves(batch))):
            return batch, None
        with runtime.side():
            return copied(batch)

    def given(batch: T, event: Any) -> T:
        if event is None:
            return copied(batch)[0]
        steps.append((runtime.record(), []))
        runtime.wait(event)
        for leaf in leaves(batch):
            runtime.keep(leaf)
        return batch

    try:
        yield from starmap(given, _early(iter(fetched, None), decision.ahead))
    finally:
        _wait(reading, 0)


def _wait(pending: deque[_Pending], most: int) -> None:
    """Wait until at most ``most`` are left, and let go of all that are past."""
    while pending and (len(pending) > most or pending[0][0].query()):  # type: ignore[no-untyped-call] # torch's
        pending[0][0].synchronize()
        pending.popleft()  # not before: the loader's threads write to what is let go


def _early(items: Iterator[T], ahead: int) -> Iterator[T]:
    """``items``, up to ``ahead`` of them taken before they are asked for; an exception comes after those before it."""
    taken = deque(islice(items, 1))  # the first one waits for itself alone
    try:
        while taken:
            yield taken.popleft()
            taken.extend(islice(items, min(2, ahead + 1 - len(taken))))
    except Exception:
        while taken:
            yield taken.popleft()
        raise


def copy_into(batches: Iterable[T], static: T) -> Iterator[T]:
    """Copy every batch into the tensors of ``static``, the inputs of a captured CUDA graph, say, and yield ``static``.

    The copies go to the current stream, which must be the one that uses ``static``. Raises DataError for a batch that
    differs in structure, dtype or shape, or in a value that is no tensor; ``static`` then holds the batch before it.
    """

    def filled(batch: T, number: int) -> T:
        for inputs, tensor in list(_pairs(static, batch, f"batch {number}")):
            inputs.copy_(tensor)
        return static

    yield from map(filled, batches, count())


def _pairs(static: Any, came: Any, where: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every tensor of ``static`` with the one at the same place in ``came``."""
    inputs, parts = _parts(static), _parts(came)
    if isinstance(static, torch.Tensor) and isinstance(came, torch.Tensor):
        alike = (static.dtype, static.shape) == (came.dtype, came.shape)
        yield static, came
    else:
        alike = inputs.keys() == parts.keys() and (bool(inputs) or (static == came) is True)
    if not alike:
        words = f"{_described(static)} was expected, as in the static inputs, got {_described(came)}"
        raise DataError(f"{where}: {words}. Make batches alike, in collate_fn; drop_last=True leaves out a short one.")
    for key, child in inputs.items():
        yield from _pairs(child, parts[key], f"{where}[{key!r}]")


def _described(node: Any) -> str:
    if isinstance(node, torch.Tensor):
        return f"{str(node.dtype).removeprefix('torch.')} {tuple(node.shape)}"
    return f"{type(node).__name__} {[*_parts(node)] or repr(node)}"
