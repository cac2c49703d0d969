"""Batches of a map-style dataset: fetched sample by sample, or at once where the dataset offers it, then collated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import IterableDataset

from pytest_loaderperf.errors import DataError

Collate = Callable[[Any], Any]
_SHOWN = 4  # indices in a note


@runtime_checkable
class MapStyleDataset(Protocol):
    """What torch calls a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Samples:
    """Makes one batch from a list of indices, as torch's own fetcher does.

    An exception of the dataset or of ``collate`` passes through unchanged, with a note that names stage and samples.
    """

    def __init__(self, dataset: object, collate: Collate) -> None:
        if not isinstance(dataset, MapStyleDataset) or isinstance(dataset, IterableDataset):
            raise DataError(
                "the dataset must be a dict or tuple of arrays or tensors, a TensorDataset, or a map-style dataset "
                f"with __len__ and __getitem__, but {type(dataset).__name__} came. Materialise an iterable one first."
            )
        self._dataset = dataset
        self._getitems = getattr(dataset, "__getitems__", None)
        self._collate = collate

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: Sequence[int]) -> Any:
        """The collated batch of the samples at ``indices``."""
        fetched = self._fetch(indices)
        try:
            return self._collate(fetched)
        except Exception as error:
            error.add_note(f"raised in stage collate, for samples {_brief(indices)}")
            raise

    def _fetch(self, indices: Sequence[int]) -> Any:
        where: object = f"samples {_brief(indices)}"
        try:
            if self._getitems is not None:
                return self._getitems(list(indices))
            samples = []
            for index in indices:
                where = f"sample {index}"
                samples.append(self._dataset[index])
        except StopIteration as error:
            raise RuntimeError(f"the dataset raised StopIteration in stage fetch, for {where}") from error
        except Exception as error:
            error.add_note(f"raised in stage fetch, for {where}")
            raise
        return samples


def _brief(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:_SHOWN]))
    return f"{shown}, ... ({len(indices)} in all)" if len(indices) > _SHOWN else shown
