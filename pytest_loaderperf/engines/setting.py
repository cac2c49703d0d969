"""The dataset that every engine gets, and how it is to be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, default_collate

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.remote.naming import resolve


@dataclass(frozen=True, slots=True)
class Setting:
    """What an engine gets: the dataset, unchanged, the size of a batch, and how many workers it may have."""

    dataset: Any
    batch_size: int
    workers: int
    collate: Callable[[Any], Any] = default_collate

    @property
    def streams(self) -> bool:
        """Whether the dataset is iterable-style: it has no indices, so it is not shuffled."""
        return isinstance(self.dataset, IterableDataset)

    @property
    def samples(self) -> int:
        """Length of the dataset; 0 if it is iterable-style, and known only after an epoch."""
        return 0 if self.streams else len(self.dataset)

    @property
    def threads(self) -> str:
        """How an engine with threads is used, in words."""
        return f"{self.workers} thread{'s' * (self.workers != 1)}"

    @property
    def processes(self) -> str:
        """How an engine with worker processes is used, in words."""
        return f"{self.workers} process{'es' * (self.workers != 1)}"


def dataset_of(spec: str) -> Any:
    """The dataset of ``MODULE:FACTORY``, or the one of that name. Raises LoaderPerfError if it is none."""
    dataset = resolve(spec, wanted="the function that makes the dataset")
    if callable(dataset) and (isinstance(dataset, type) or not hasattr(dataset, "__getitem__")):
        try:
            dataset = dataset()
        except Exception as error:
            raise LoaderPerfError(f"{spec} raised {type(error).__name__}: {error}") from error
    got = type(dataset).__name__
    if isinstance(dataset, DataLoader):
        raise LoaderPerfError(f"{spec}: expected a dataset, got a {got}. To measure a loader: loaderperf bench {spec}")
    if isinstance(dataset, IterableDataset):
        return dataset
    if isinstance(dataset, Mapping) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise LoaderPerfError(
            f"{spec}: expected a dataset with __len__ and __getitem__, or a torch IterableDataset, got {got}."
        )
    if len(dataset) == 0:
        raise LoaderPerfError(f"{spec}: expected a dataset with samples, got one of length 0.")
    return dataset
