"""Samples of map-style and iterable-style datasets, fetched as torch's own fetchers do it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice, repeat
from typing import Any

from torch.utils.data import Subset

from pytest_loaderperf.data.arrays.place import rest_of
from pytest_loaderperf.data.stores.augment import source_of
from pytest_loaderperf.loader.states import State, is_stateful, resumed, taken

_SHOWN = 4  # indices in a note


class MapSamples:
    """The samples of a map-style dataset, one by one or, where it has ``__getitems__``, a batch at once.

    ``write``: the dataset's ``__getitem_into__(index, out)``, None where it has none. Then samples come one by one.
    An exception of the dataset passes through unchanged, with a note that names stage and sample.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.write = _writer(dataset)
        self._source = source_of(dataset)
        self.at_once = self.write is None and getattr(self._source, "__getitems__", None) is not None

    def fetch(self, indices: Sequence[Any]) -> Any:
        """The samples at ``indices``, or a batch where the dataset makes that itself."""
        if not self.at_once:
            return self._one_by_one(indices)
        try:
            return self._source.__getitems__(indices)
        except Exception as error:
            _note(error, brief(indices))
            raise

    def fetch_one(self, index: Any, *out: Any) -> Any:
        """The sample at ``index``, or whatever the dataset gives for it, which it may have written to ``out``."""
        try:
            return self.write(index, *out) if out and self.write else self._source[index]
        except Exception as error:
            _note(error, f"sample {index!r}")
            raise

    def fetch_good(self, indices: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Pairs of index and sample for ``indices``, with a Failure for each sample that raises."""
        if self.at_once:
            with suppress(Exception):  # one by one it shows which of them failed
                return list(zip(indices, self.fetch(indices), strict=True))
        return [(index, self._good(index)) for index in indices]

    def _good(self, index: Any) -> Any:
        try:
            return self.fetch_one(index)
        except Exception as error:  # noqa: BLE001 reported by whoever collects the failures
            return Failure(index, error)

    def _one_by_one(self, indices: Sequence[Any]) -> list[Any]:
        samples, dataset, index = [], self._source, None
        try:
            for index in indices:
                samples.append(dataset[index])
        except Exception as error:
            _note(error, f"sample {index!r}")
            raise
        return samples


def _writer(dataset: Any) -> Callable[[Any, Any], Any] | None:
    """Its ``__getitem_into__``, also of what torch took a subset of; None where there is none."""
    if type(dataset) is not Subset:
        return getattr(dataset, "__getitem_into__", None)
    inner = _writer(dataset.dataset)
    return inner and (lambda index, out: inner(dataset.indices[index], out))


class Failure:
    """A sample that could not be fetched. Across processes only the text of its exception travels."""

    def __init__(self, index: Any, error: Exception) -> None:
        self.index, self.error = index, error
        self.text = f"{type(error).__name__}: {error}"

    def __getstate__(self) -> dict[str, Any]:
        shown = "".join(traceback.format_exception(self.error))
        return {**self.__dict__, "error": RuntimeError(f"Caught in a worker process.\nOriginal {shown}")}


class StreamSamples:
    """The samples of one epoch of an iterable-style dataset: those after ``after``, or, without it, after ``skip``.

    ``skip``: whole batches of ``size``, the last of which may have been short.
    """

    def __init__(self, dataset: Any, *, drop_last: bool, skip: int, size: int, after: State | None = None) -> None:
        self.dataset, self._iterator = dataset, resumed(dataset, after)
        start = skip if after is None else 0
        once = map(next, repeat(self._iterator))  # islice would ask for an iterator once more, which may begin anew
        self._samples = rest_of(once, start, size)  # which stays at its end, also at one by an exception
        self._drop_last = drop_last
        self._ended = False

    @property
    def is_stateful(self) -> bool:
        """Whether the dataset or its iterator has a state of its own."""
        return is_stateful(self.dataset) or is_stateful(self._iterator)

    def state(self) -> State | None:
        """Of the dataset and its iterator, None where neither has one."""
        return taken(self.dataset, self._iterator, ended=self._ended)

    def fetch(self, size: int | None) -> Any:
        """The next ``size`` samples as a list, fewer at the end; None: the next sample alone. Raises StopIteration."""
        wanted = 1 if size is None else size
        try:
            samples = list(islice(self._samples, wanted))
        except Exception as error:
            error.add_note("raised in stage fetch, by the iterable dataset")
            raise
        self._ended = len(samples) < wanted
        if not samples or (self._drop_last and self._ended):
            raise StopIteration
        return samples[0] if size is None else samples


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
