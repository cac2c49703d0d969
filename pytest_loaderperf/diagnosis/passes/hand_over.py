"""The hand-over between the processes of torch's DataLoader: which batch is asked for, sent and received when.

Torch has no public hooks for these, so its own functions are wrapped, in a process that only observes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from torch.utils.data import _utils, get_worker_info
from torch.utils.data import dataloader as torch_dataloader

from pytest_loaderperf.diagnosis.passes.spans import Spans
from pytest_loaderperf.diagnosis.timeline import ASK, SEND


class HandOver:
    """Tells ``add_ns`` the time of each stage, and ``spans`` when it was, with batch and iteration.

    An iteration is named by the number of its iterator and by how often a persistent one was started again.
    """

    def __init__(self, add_ns: Callable[[str, int], None], spans: Spans) -> None:
        self._add_ns, self._spans = add_ns, spans
        self._free_ns = 0  # when this worker last began to wait for indices
        self._iterators = 0
        self._resets: Counter[int] = Counter()
        self._local = threading.local()  # the iteration whose batches this thread receives, and the batch

    def forget(self) -> None:
        """In a forked worker: it belongs to the newest iterator."""
        self._spans.forget()
        self._free_ns = self._spans.began_ns
        self._local = threading.local()
        self._spans.iteration = self._iteration(self._iterators)

    def waits(self) -> None:
        """This worker has made a batch, and begins to wait for the next indices."""
        self._free_ns = time.perf_counter_ns()

    def batch_of(self, stage: str, args: tuple[Any, ...]) -> int | None:
        """The batch that a stage works on, if it is not that of the process: pinning and indices run ahead."""
        if stage == "index":
            return getattr(args[0], "_send_idx", None)
        return getattr(self._local, "batch", None) if stage == "pin" else None

    def install(self) -> None:
        """Wrap the functions of this process, and so those of the workers that it forks."""
        ForkingPickler.dumps = self._dumps(ForkingPickler.dumps)  # type: ignore[method-assign]
        ForkingPickler.loads = staticmethod(self._loads(ForkingPickler.loads))
        self._wrap_iterator(torch_dataloader._MultiProcessingDataLoaderIter)  # noqa: SLF001 torch has no public name for it

    def _dumps(self, dumps: Any) -> Any:
        def dumped(_kind: Any, value: Any, protocol: Any = None) -> Any:
            began = time.perf_counter_ns()
            try:
                return dumps(value, protocol)
            finally:
                ended = time.perf_counter_ns()
                self._add_ns("send", ended - began)
                if get_worker_info() is not None and _is_batch(value):
                    self._spans.add(SEND, began, ended, value[0], self._spans.iteration)

        return classmethod(dumped)

    def _loads(self, loads: Any) -> Any:
        def loaded(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter_ns()
            value = loads(*args, **kwargs)
            ended = time.perf_counter_ns()
            self._add_ns("receive", ended - began)
            if get_worker_info() is None:
                if _is_batch(value):
                    self._local.batch = value[0]
                    self._spans.add("receive", began, ended, value[0], getattr(self._local, "iteration", ""))
            elif threading.current_thread() is threading.main_thread():
                self._asked(value, began)
            return value

        return loaded

    def _asked(self, value: Any, began: int) -> None:
        """In a worker: the main process asks for a batch, or for a new iteration."""
        if isinstance(value, _utils.worker._ResumeIteration):  # noqa: SLF001 torch has no public name for it
            self._resets[self._iterators] += 1
            self._spans.iteration = self._iteration(self._iterators)
        elif _is_batch(value):
            self._spans.batch = value[0]
            self._spans.add("wait", self._free_ns, began)

    def _iteration(self, iterator: int) -> str:
        return f"{iterator}.{self._resets[iterator]}"

    def _wrap_iterator(self, kind: Any) -> None:
        """Number the iterations, and keep when each of their batches was asked for."""
        hand_over = self
        start, reset, get, next_data = kind.__init__, kind._reset, kind._get_data, kind._next_data  # noqa: SLF001 torch has no public name for them
        pins = _utils.pin_memory._pin_memory_loop  # noqa: SLF001 likewise

        def started(self: Any, loader: Any) -> None:
            hand_over._iterators += 1
            self._loaderperf_number = hand_over._iterators
            start(self, loader)

        def resetted(self: Any, loader: Any, first_iter: bool = False) -> None:  # noqa: FBT001, FBT002 torch's own signature
            hand_over._resets[self._loaderperf_number] += not first_iter
            reset(self, loader, first_iter)

        def got(self: Any) -> Any:
            hand_over._local.iteration = hand_over._iteration(self._loaderperf_number)
            began = time.perf_counter_ns()
            try:
                return get(self)
            finally:
                hand_over._spans.add("wait", began, time.perf_counter_ns())

        def given(self: Any) -> Any:
            began = time.perf_counter_ns()
            batch = next_data(self)
            number = self._rcvd_idx - 1 if getattr(self, "_in_order", True) else -1
            iteration = hand_over._iteration(self._loaderperf_number)
            hand_over._spans.add(ASK, began, time.perf_counter_ns(), number, iteration)
            return batch

        def pinned(*args: Any, **kwargs: Any) -> Any:
            hand_over._local.iteration = hand_over._iteration(hand_over._iterators)
            return pins(*args, **kwargs)

        kind.__init__, kind._reset, kind._get_data, kind._next_data = started, resetted, got, given  # noqa: SLF001 likewise
        _utils.pin_memory._pin_memory_loop = pinned  # noqa: SLF001 likewise


def _is_batch(value: Any) -> bool:
    """Whether what goes between processes is a number with its indices, or with the batch made of them."""
    numbered = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int)  # noqa: PLR2004 said beside it
    return numbered and not isinstance(value[1], _utils.worker._IterableDatasetStopIteration)  # noqa: SLF001 torch has no public name for it
