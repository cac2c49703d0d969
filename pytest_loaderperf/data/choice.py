"""optimize: which store a dataset or a table gets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.data.stores.augment import Per, Transform, augmented, check_transform
from pytest_loaderperf.data.stores.background import PreloadedTable
from pytest_loaderperf.data.stores.compressed import compressed
from pytest_loaderperf.data.stores.identity import versions
from pytest_loaderperf.data.stores.mapped import mapped, mapped_object
from pytest_loaderperf.data.stores.memo import MemoStore
from pytest_loaderperf.data.stores.preload import Preloaded, budget_of
from pytest_loaderperf.data.stores.source import Source, is_table, naming
from pytest_loaderperf.data.stores.whole import chunked, whole
from pytest_loaderperf.errors import DataError

Cache = Literal["auto", "whole", "chunked", "mapped", "compressed", "lru", "lazy"]
IN_MEMORY = ("whole", "chunked", "lazy")  # which finally hold every row uncompressed
MAPPED_SHARE = 3  # the budget is divided by this: the rest is for batches and the process itself
_log = logging.getLogger("pytest_loaderperf")


def optimize(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    cache: Cache = "auto",
    memory_budget: int | None = None,
    background: bool = False,
    cache_dir: str | Path | None = None,
    transform: Transform | None = None,
    per: Per = "sample",
) -> Any:
    """``source`` as a map-style dataset whose batches are gathered from memory, without running its code again.

    ``source``: a map-style dataset, whose samples are read once and kept, so that random augmentation is the same in
    every epoch: a FrozenAugmentationWarning says so. Samples must have the same structure, shape and dtype. Or a
    ``pa.Table``, or a Table of ``data/formats``: its samples are dicts of one tensor a column, and columns of
    encoded pictures are decoded once, to RGB (`encoded.pictures.open_pictures` has other choices). ``memory_budget``:
    bytes that it may take, by default half of the available memory. ``background``: return immediately and fill in from
    a thread; a sample that is requested earlier is fetched then, by one thread at a time.

    ``transform``: called with the kept sample on each request, in the thread or process that fetches: for augmentation.
    ``per``: ``"sample"``, it is called with each sample and returns it; or ``"batch"``, with each batch.

    Only for tables: ``columns``: those to load; None: all. ``cache``: ``"whole"`` (one read), ``"chunked"`` (copied
    out of a stream), ``"mapped"`` (a file in ``cache_dir`` that processes share), ``"compressed"``, ``"lru"`` (as many
    of the last used samples as fit the budget), ``"lazy"`` (each sample is read when it is first requested), or
    ``"auto"``: whole if that fits the budget, else mapped; mapped for a table of an object store, which is then read
    only if it has changed.

    Raises DataError if it does not fit, has samples or columns that no array can store, or is empty and map-style; and
    what a map-style dataset raises.
    """
    check_transform(transform, per)
    store = _optimized(source, columns, cache, memory_budget, background=background, cache_dir=cache_dir)
    return augmented(store, transform, per)


def _optimized(
    source: Any,
    columns: Sequence[str] | None,
    cache: Cache,
    memory_budget: int | None,
    *,
    background: bool,
    cache_dir: str | Path | None,
) -> Any:
    if cache not in get_args(Cache):
        raise DataError(f"cache: expected one of {', '.join(get_args(Cache))}, got {cache!r}.")
    in_store = isinstance(getattr(source, "path", None), ObjectPath)  # told without opening it
    if not in_store and not is_table(source):
        if columns is not None or cache != "auto" or cache_dir is not None:
            raise DataError(
                f"columns, cache and cache_dir are for tables, got {type(source).__name__}. Leave them out, "
                "or give a pa.Table or what data.formats opens."
            )
        return Preloaded(source, memory_budget=memory_budget, background=background)
    from pytest_loaderperf.data.encoded.pictures import with_pictures

    budget = budget_of(memory_budget)
    if in_store and cache in ("auto", "mapped") and not background:
        return _downloaded(source, columns, budget, None if cache_dir is None else Path(cache_dir))
    source = with_pictures(source, columns)
    if background and cache not in ("auto", "whole", "chunked"):
        raise DataError(f"background=True fills arrays in memory, got cache={cache!r}. Leave one of the two out.")
    with naming(source):
        table = Source(source, columns)
    fits = table.nbytes <= budget
    why = f"{table.nbytes:,} bytes {'fit' if fits else 'exceed'} the budget of {budget:,}"
    if cache == "auto":
        cache = "whole" if fits else "mapped"
        why += "" if fits or not background else ", so nothing is filled in the background"
    elif cache in IN_MEMORY and not fits:
        raise DataError(
            f"{len(table):,} rows take about {table.nbytes:,} bytes, more than the budget of {budget:,}. "
            f'Give a larger memory_budget, or cache="mapped" instead of {cache!r}.'
        )
    else:
        why += ", as requested"
    _log.info("store: %s rows, cache %s%s: %s", f"{len(table):,}", cache, ", in the background" * background, why)
    with naming(source):
        return _store(table, cache, budget, None if cache_dir is None else Path(cache_dir), background=background)


def _downloaded(table: Any, columns: Sequence[str] | None, budget: int, cache_dir: Path | None) -> Any:
    """The rows of a table of an object store, kept on this machine until the object changes."""
    from pytest_loaderperf.data.encoded.pictures import Pictures, with_pictures

    def source() -> Source:
        with naming(table):
            return Source(with_pictures(table, columns), columns)

    names = None if columns is None else list(columns)
    key = [names, versions(table, Pictures.packages)]
    _log.info(
        "store: cache mapped: %s is in an object store, and its file is read again only if it changes", table.path
    )
    with naming(table):
        return mapped_object(table, source, key, cache_dir, budget // MAPPED_SHARE)


def _store(table: Source, cache: Cache, budget: int, cache_dir: Path | None, *, background: bool) -> Any:
    if cache == "mapped":
        return mapped(table, cache_dir, budget // MAPPED_SHARE)
    if background and len(table):
        return PreloadedTable(table)
    if cache == "compressed":
        return compressed(table, budget)
    if cache == "lru":
        return MemoStore(table, max(1, budget // max(1, table.row_nbytes)))
    if cache == "lazy":
        return MemoStore(table, None)
    return chunked(table) if cache == "chunked" else whole(table, budget)
