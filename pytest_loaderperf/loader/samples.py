"""Samples of map-style and iterable-style datasets, fetched as torch's own fetchers do it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

_SHOWN = 4  # indices in a note


class MapSamples:
    """The samples of a map-style dataset, one by one or, where it has ``__getitems__``, a batch at once.

    An exception of the dataset passes through unchanged, with a note that names stage and sample.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._getitems = getattr(dataset, "__getitems__", None)
        self.at_once = self._getitems is not None

    def fetch(self, indices: Sequence[Any]) -> Any:
        """The samples at ``indices``."""
        if self._getitems is not None:
            try:
                return self._getitems(indices)
            except Exception as error:
                _note(error, brief(indices))
                raise
        samples = []
        dataset, index = self.dataset, None
        try:
            for index in indices:
                samples.append(dataset[index])
        except Exception as error:
            _note(error, f"sample {index!r}")
            raise
        return samples

    def fetch_one(self, index: Any) -> Any:
        """The sample at ``index``, or whatever the dataset gives for it."""
        try:
            return self.dataset[index]
        except Exception as error:
            _note(error, f"sample {index!r}")
            raise

    def fetch_good(self, indices: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Pairs of index and sample for ``indices``, with a Failure for each sample that raises."""
        if self._getitems is not None:
            try:
                return list(zip(indices, self._getitems(indices), strict=True))
            except Exception:  # noqa: BLE001, S110 one by one it shows which of them failed
                pass
        return [self.good_one(index) for index in indices]

    def good_one(self, index: Any) -> tuple[Any, Any]:
        """The index and the sample at ``index``, or a Failure where it raises."""
        try:
            return index, self.fetch_one(index)
        except Exception as error:  # noqa: BLE001 reported by whoever collects the failures
            return index, Failure(index, error)


class Failure:
    """A sample that could not be fetched. Across processes only the text of its exception travels."""

    def __init__(self, index: Any, error: Exception) -> None:
        self.index, self.error = index, error
        self.text = f"{type(error).__name__}: {error}"

    def __getstate__(self) -> dict[str, Any]:
        shown = "".join(traceback.format_exception(self.error))
        return {**self.__dict__, "error": RuntimeError(f"Caught in a worker process.\nOriginal {shown}")}


class StreamSamples:
    """The samples of one epoch of an iterable-style dataset; ``done`` once it has ended."""

    def __init__(self, dataset: Any, *, drop_last: bool, skip: int) -> None:
        self._samples: Iterator[Any] = iter(dataset)
        self._drop_last, self._skip = drop_last, skip
        self.done = False

    def fetch(self, size: int | None) -> Any:
        """The next ``size`` samples as a list, fewer at the end; None: the next sample alone. Raises StopIteration."""
        if self.done:
            raise StopIteration
        try:
            for _ in islice(self._samples, self._skip):
                pass
            self._skip = 0
            if size is None:
                return next(self._samples)
            samples = list(islice(self._samples, size))
        except StopIteration:
            self.done = True
            raise
        except Exception as error:
            self.done = True
            error.add_note("raised in stage fetch, by the iterable dataset")
            raise
        self.done = len(samples) < size
        if not samples or (self.done and self._drop_last):
            raise StopIteration
        return samples


def collated(collate: Callable[..., Any], samples: Any, indices: Any, *buffers: Any) -> Any:
    """``collate(samples, *buffers)``; its exceptions get a note that names the ``indices`` (None: of a stream)."""
    try:
        return collate(samples, *buffers)
    except Exception as error:
        which = "samples of the iterable dataset" if indices is None else brief(indices)
        error.add_note(f"raised in stage collate, for {which}")
        raise


def brief(indices: Any) -> str:
    """Which samples a batch was made of, in a few words."""
    if type(indices) not in (list, tuple):
        return f"sample {indices!r}"
    shown = ", ".join(map(str, indices[:_SHOWN]))
    return f"samples {shown}, ... ({len(indices)} in all)" if len(indices) > _SHOWN else f"samples {shown}"


def _note(error: Exception, which: str) -> None:
    # A StopIteration would end the iteration without a word. It is no wrong type of an argument, as the linter thinks.
    if isinstance(error, StopIteration):
        raise RuntimeError(f"the dataset raised StopIteration in stage fetch, for {which}") from error  # noqa: TRY004
    error.add_note(f"raised in stage fetch, for {which}")
