"""The sides of a run: their names, and the checks before and after they are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_loaderperf.data.arrays.columns import as_columns
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import AnySide, Side, Watchdog, stage_shares
from pytest_loaderperf.measurement.conditions import draws_kept
from pytest_loaderperf.remote.shared_channels import held_channel

LOADER, AGAINST, BASE, ROOFLINE = "loader", "against", "base", "roofline"


def named(against: object) -> dict[str, object]:
    """The other loaders, by name. Raises LoaderError for names that cannot be used."""
    if against is None:
        return {}
    if not isinstance(against, Mapping):
        return {AGAINST: against}
    if not against or any(not isinstance(name, str) or name in (LOADER, BASE, ROOFLINE) for name in against):
        raise LoaderError(
            f"against= takes a loader, a factory, or a mapping from names to them, got the names {list(against)}. "
            f"Expected at least one string, and none of {LOADER!r}, {BASE!r} and {ROOFLINE!r}."
        )
    return dict(against)


def epoch_batches(loader: Any) -> int | None:
    """The loader's own length; only the size of the roofline's source depends on it."""
    try:
        return max(1, len(loader))
    except Exception:  # noqa: BLE001 len() may be missing, wrong, or raise anything
        return None


def check_separate(sides: Mapping[str, Side]) -> None:
    """Raise LoaderError if two sides share one iterator."""
    iterators = [side.iterator for side in sides.values() if side.iterator is not None]
    if len({id(iterator) for iterator in iterators}) < len(iterators):
        raise LoaderError(
            "two sides share one iterator: they are the same loader object, which allows only one epoch at a time. "
            "Give factories, so that each side has a loader of its own."
        )


def stages_of(loader: Any, watchdog: Watchdog) -> dict[str, float]:
    """Share of a batch's time by stage; empty for a loader whose stages cannot be done again here."""
    read = [getattr(loader, name, None) for name in ("dataset", "batch_sampler", "collate_fn")]
    if getattr(loader, "num_workers", 0) and held_channel(*read):
        return {}  # its workers would miss the messages read here
    try:
        with watchdog.stage("loader: replaying its stages"), draws_kept():
            return stage_shares(loader)
    except Exception:  # noqa: BLE001 the dataset works only in its workers; the verdict is shown without stages
        return {}


def dataset_nbytes(side: AnySide) -> int:
    """Bytes of all samples of a side's dataset, as delivered. Raises LoaderError if it has no length."""
    dataset = getattr(side.loader, "dataset", None)
    columns = as_columns(dataset)
    try:
        samples = len(columns) if columns is not None else len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise LoaderError(
            f"run.dataset_nbytes: the loader of type {type(side.loader).__name__} has no dataset with a length. "
            "Give its size: loaderperf(make_loader, dataset_nbytes=...)."
        ) from None
    return round(samples * side.batch_nbytes / side.batch_samples)
