"""Pre-load: a map-style dataset that fits into memory, fetched once and then gathered from."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import ref

import numpy as np
import psutil

from pytest_loaderperf.data.arrays.columns import Column, Columns, Rebuild, RowDataset
from pytest_loaderperf.data.arrays.fields import Field, alike, field_of, nbytes
from pytest_loaderperf.data.arrays.indices import places
from pytest_loaderperf.data.arrays.randomness import generators_kept
from pytest_loaderperf.data.arrays.structure import SampleMismatchError, carrying, rebuilder, sample_leaves, write
from pytest_loaderperf.data.execution.turns import Turns
from pytest_loaderperf.errors import DataError, FrozenAugmentationWarning

_log = logging.getLogger("pytest_loaderperf")
PROBED = 8  # extra reads: an augmentation that changes every second read is missed once in 256 times
PROBE_S = 0.1  # no further one starts after that: a slow dataset has only one extra read
CHUNK = 32  # samples fetched at a time; a consumer may have to wait for so many
EXIT_S = (
    5.0  # the interpreter's exit waits as long for a chunk: a thread that then is in torch's code aborts the process
)
BUDGET_SHARE = 2  # the available memory is divided by this: by default half of it


def budget_of(memory_budget: int | None) -> int:
    """The bytes that may be taken: by default half of the available memory. Raises DataError for an invalid number."""
    if memory_budget is not None and (type(memory_budget) is not int or memory_budget < 1):
        raise DataError(f"memory_budget: expected an integer of at least 1 (bytes), got {memory_budget!r}.")
    return psutil.virtual_memory().available // BUDGET_SHARE if memory_budget is None else memory_budget


class Preloaded(RowDataset):
    """What ``optimize`` returns: a map-style dataset of tensors, for ReferenceLoader and any other loader."""

    def __init__(self, dataset: Any, *, memory_budget: int | None, background: bool) -> None:
        budget = budget_of(memory_budget)
        map_style = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if isinstance(dataset, Mapping | tuple) or not map_style:
            raise DataError(
                f"what is pre-loaded: expected a map-style dataset with __len__ and __getitem__, got "
                f"{type(dataset).__name__}. A dict or tuple of arrays goes to ReferenceLoader as it is."
            )
        samples = len(dataset)
        if not samples:
            raise DataError("the dataset is empty, so the structure of its samples is unknown. Expected at least one.")
        self._dataset = dataset
        first = self._fetch(0)
        if (kind := carrying(first)) is not None:
            raise DataError(
                f"expected samples that are all numbers, got {kind} with attributes of its own, which arrays would "
                "lose. Make them parts of the sample, or load from the dataset itself."
            )
        fields = [field for name, leaf in sample_leaves(first) if (field := field_of(leaf, name)) is not None]
        if not fields or len(fields) < len(list(sample_leaves(first))):
            raise DataError(
                "the samples have parts that the rows of an array cannot hold, such as strings, tensors that require "
                "gradients, or no values at all. Make them numbers, or load from the dataset itself."
            )
        if (needed := nbytes(fields, samples)) > budget:
            raise DataError(
                f"{samples:,} samples of {nbytes(fields):,} bytes take {needed:,} bytes, more than the budget of "
                f"{budget:,}. Give a larger memory_budget, or load from the dataset itself."
            )
        self._allocate(samples, fields, rebuilder(first))
        self._write(0, first)
        self._warn_of_draws(1 if background else min(PROBED, samples))
        _log.info("pre-load: %d samples, %d bytes%s", samples, needed, ", in the background" if background else "")
        if background:
            self._begin()
        else:
            self._fill(range(samples))

    def _warn_of_draws(self, samples: int) -> None:
        """Read the first ``samples`` again, and warn if one differs."""
        deadline_s = time.perf_counter() + PROBE_S
        for index in range(samples):
            try:
                self._fill_chunk([index])
            except Exception:  # noqa: BLE001 it is raised again when that sample is fetched
                return
            with generators_kept():
                for _ in range(-(-PROBED // samples)):
                    if (name := self._read_again(index)) is not None:
                        _warn(index, name)
                        return
                    if time.perf_counter() > deadline_s:
                        return

    def _read_again(self, index: int) -> str | None:
        """The name of the field of sample ``index`` that differs in a second read; None if none does."""
        again = [np.empty((1, *field.shape), field.dtype) for field in self._fields]
        try:
            sample = self._dataset[index]
        except Exception as error:  # noqa: BLE001 it was read once, which is enough
            _log.info("pre-load: sample %d cannot be read twice: %s: %s", index, type(error).__name__, error)
            return None
        try:
            write(sample, self._fields, again, 0)
        except SampleMismatchError as error:
            return error.name
        fields = zip(self._fields, self._arrays, again, strict=True)
        return next(
            (field.name for field, kept, read in fields if not alike(field, kept[index, ...], read[0, ...])), None
        )

    def _allocate(self, samples: int, fields: Sequence[Field], rebuild: Rebuild) -> None:
        """Make empty arrays, one for each field."""
        self._arrays = [np.empty((samples, *field.shape), field.dtype) for field in fields]
        columns = [Column(a, f.torch_dtype, takes_in_place=True) for f, a in zip(fields, self._arrays, strict=True)]
        self._fields, self._all = tuple(fields), Columns(tuple(columns), rebuild)
        self._filled = np.zeros(samples, bool)
        self._missing, self._next = samples, 0
        self._closed = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._turns = Turns()

    def _begin(self) -> None:
        """Start to fill in from a thread."""
        self._thread = threading.Thread(target=_fill_in, args=(ref(self),), name="loaderperf-preload", daemon=True)
        self._thread.start()

    @property
    def columns(self) -> Columns | None:  # type: ignore[override]  # known from the start elsewhere
        """The arrays, once every sample is in them."""
        return None if self._missing else self._all

    def _columns(self) -> Columns:
        return self._all

    def wait(self) -> None:
        """Return when every sample is there; missing ones are fetched now. Raises the background's error."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        if self._missing:
            self._fill(range(len(self)))

    def close(self, timeout_s: float | None = None) -> None:
        """Stop filling in from the background. Samples stay, and missing ones are fetched on request.

        Waits for the current chunk, at most ``timeout_s``. May be called twice.
        """
        self._closed = True
        if self._thread is not None:
            self._thread.join(timeout_s)

    def __len__(self) -> int:
        return len(self._filled)

    def __getitem__(self, index: Any) -> Any:
        if self._missing:
            indices, _ = places(len(self), index)
            self._fill(indices[~self._filled[indices]].tolist())
        return super().__getitem__(index)

    def __getstate__(self) -> dict[str, Any]:
        with self._turns:  # what is filled in from now on may not be in the copy of the arrays
            alone = {"_thread": None, "_error": None}
            return self.__dict__ | alone | {"_filled": self._filled.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _fill(self, indices: Sequence[int]) -> None:
        for start in range(0, len(indices), CHUNK):
            self._fill_chunk(indices[start : start + CHUNK])

    def _fill_chunk(self, indices: Sequence[int]) -> None:
        with self._turns:
            self._fill_rows([index for index in dict.fromkeys(indices) if not self._filled[index]])

    def _fill_rows(self, missing: Sequence[int]) -> None:
        """Fill in the samples at ``missing``, none of which is there yet."""
        for index in missing:
            self._write(index, self._fetch(index))

    def _step(self) -> bool:
        """Fill in the next chunk; returns whether there is more."""
        start, self._next = self._next, self._next + CHUNK
        self._fill_chunk(range(start, min(self._next, len(self))))
        return self._next < len(self)

    def _fetch(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except Exception as error:
            error.add_note(f"raised in stage pre-load, for sample {index}")
            raise

    def _write(self, index: int, sample: Any) -> None:
        try:
            write(sample, self._fields, self._arrays, index)
        except SampleMismatchError as error:
            where = f" in field {error.name!r}" if error.name else ""
            raise DataError(
                f"sample {index} differs from sample 0{where}: {error.args[0]} "
                "Make all samples alike, so that one array holds each field, or load from the dataset itself."
            ) from None
        self._filled[index] = True
        self._missing -= 1


def _warn(index: int, name: str) -> None:
    warnings.warn(
        f"expected two reads of sample {index} to be equal, got a different{f' {name}' if name else ''}: optimize() "
        "reads each sample once and keeps it, so random augmentation inside the dataset would be the same in every "
        "epoch. Move the random augmentation to optimize(dataset, transform=augment), which calls it every time. If "
        "one draw for all epochs is intended, ignore pytest_loaderperf.FrozenAugmentationWarning.",
        FrozenAugmentationWarning,
        stacklevel=6,  # the caller of optimize
    )


def _fill_in(preloaded: ref[Preloaded]) -> None:
    """Fill in from the background, until it is closed or nothing else refers to it."""

    def close() -> None:
        if (own := preloaded()) is not None:
            own.close(EXIT_S)

    atexit.register(close)
    more = True
    try:
        while more and (own := preloaded()) is not None and not own._closed:  # noqa: SLF001 of this module
            try:
                more = own._step()  # noqa: SLF001
            except Exception as error:  # noqa: BLE001 for wait(); a consumer that asks for that sample gets its own
                own._error = error  # noqa: SLF001
                _log.warning("pre-load stopped: %s: %s", type(error).__name__, error)
                return
            del own
    finally:
        atexit.unregister(close)
