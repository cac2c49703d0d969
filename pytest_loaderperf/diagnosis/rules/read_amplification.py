"""Storage that is read in large pieces of which one sample is used."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_loaderperf.diagnosis.findings import Finding, Rule, predicted, share_of_time
from pytest_loaderperf.diagnosis.ledger import Ledger, Site
from pytest_loaderperf.diagnosis.rules.file_reopened import lines
from pytest_loaderperf.diagnosis.rules.reading import often, often_text, per, plain, regular

_STORES = (
    "pyarrow.parquet",
    "pyarrow._parquet",
    "pyarrow.dataset",
    "pyarrow._dataset",
    "pyarrow.ipc",
    "pyarrow.lib.RecordBatchFileReader",
    "pyarrow.RecordBatchFileReader",
    *("h5py", "zarr", "tifffile", "lance", "duckdb", "netCDF4", "xarray", "dask", "numpy.NpzFile"),
)
_TIMES = 4  # as large as a sample, from which a piece is too large
_CACHE_NBYTES = 1 << 20  # of chunks that HDF5 keeps by default
_CHUNK_SHARE = 0.2  # of the time
_ARCHIVE = (
    "take the array out of the archive once, in __init__, or save it as .npy and map it: np.load(path, mmap_mode='r')"
)
_KNOWN = 0.05  # of the calls: random access to many pieces


def _again(ledger: Ledger, site: Site) -> bool:
    large = site.result.nbytes >= _TIMES * max(1, ledger.loader.sample_nbytes)
    return large and site.known >= max(4, _KNOWN * site.keyed) and site.callee.startswith(_STORES)


def _is_part_of_chunk(ledger: Ledger, site: Site) -> bool:
    """Whether a subscript reads a small part of a chunk that is likely not kept from the time before."""
    held, chunk = site.argument, site.argument.chunk_nbytes
    again = held.nbytes > _CACHE_NBYTES and (ledger.loader.shuffle is True or chunk > _CACHE_NBYTES)
    costly = share_of_time(ledger, site) >= _CHUNK_SHARE and chunk >= _TIMES * max(1, site.result.nbytes)
    return site.kind == "item" and again and costly and site.callee.startswith(_STORES)


def _of_piece(site: Site, *, again: bool) -> str:
    if again:
        return f"reads a piece of {site.result.nbytes:,} bytes, {{}}, and the same piece again for other samples"
    chunk = site.argument.chunk_nbytes
    return f"reads {site.result.nbytes:,} bytes of a chunk of {chunk:,}, {{}}: chunks are read as a whole"


def _find(ledger: Ledger) -> Iterator[Finding]:
    seen = set()
    for place, opens, files, calls in lines(ledger):
        times, unit = often(ledger, opens)
        if not unit or any(site.path_calls for site in calls if site.kind == "call") or not calls:
            continue
        site = max(calls, key=lambda call: call.total_ns)
        seen.add((place.file, place.line))
        yield Finding(
            RULE.id,
            f"{plain(site.callee)} reads the same {'file' if files == 1 else f'{files} files'} again and again: "
            f"{per(times)} a {unit}, {opens} in all",
            place.file,
            place.line,
            place.function,
            times,
            f"reads a {unit}",
            RULE.fix,
            predicted(ledger, site.total_ns * (1 - files / opens)),
        )
    for site, times, unit in regular(ledger):
        if (site.file, site.line) in seen or site.user:
            continue
        if (again := _again(ledger, site)) or _is_part_of_chunk(ledger, site):
            piece = _of_piece(site, again=again).format(f"{often_text(times)} a {unit}")
            yield Finding(
                RULE.id,
                f"{plain(site.callee)} {piece}",
                site.file,
                site.line,
                site.function,
                times,
                f"reads a {unit}",
                _ARCHIVE if site.callee.startswith("numpy.") else RULE.fix,
                predicted(ledger, site.total_ns, site),
                callee=site.callee,
            )


RULE = Rule(
    id="read-amplification",
    reason="A chunk or a row group is read and decompressed as a whole; random rows read each of them many times.",
    example="def __getitem__(self, i):\n    return self.zarr_array[i]  # chunks of 256 rows, random i",
    fix="keep decoded chunks (read in blocks, shuffle blocks and then rows), write smaller chunks, or pre-load: "
    "optimize(dataset)",
    limits="Reads through memory maps, and by libraries in C that keep their files open, are seen only by what "
    "calls return, and by the chunks of h5py and zarr.",
    find=_find,
)
