"""The memory of a mapped cache: shared by processes, and under a budget that the rows exceed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.loader import ReferenceLoader

PROCESSES = 4
SIDE = 256  # pixels: images of 128 KiB
BATCH_SIZE = 64
BUDGET_SHARE = 8  # of the rows' bytes
_PATIENCE_S = 120  # of a process for the slowest of the others
READ_NBYTES = 8 << 20  # at a time, when the file is read from its start to its end


@dataclass(slots=True)
class Memory:
    """Bytes, and seconds a round. ``shared_pss_nbytes``: by how much all processes together grew."""

    nbytes: int
    budget_nbytes: int
    shared_nbytes: int = 0
    shared_pss_nbytes: int = 0
    build_rss_nbytes: int = 0
    epoch_rss_nbytes: int = 0
    epoch_s: list[float] = field(default_factory=list)
    shuffled_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)

    @property
    def shared(self) -> float:
        """PSS of all processes as a share of the rows that they share."""
        return self.shared_pss_nbytes / self.shared_nbytes


def measure(nbytes: int, folder: Path, rounds: int) -> Memory:
    """Write images of about ``nbytes`` to ``folder`` if they are missing, and load them from mapped caches."""
    memory = Memory(nbytes, nbytes // BUDGET_SHARE)
    source, small = _images(nbytes, folder), _images(memory.budget_nbytes, folder)
    memory.shared_nbytes, memory.shared_pss_nbytes = _shared(small)
    memory.build_rss_nbytes, _ = _alone(_build, source, memory.budget_nbytes)
    for _ in range(rounds):
        _, seconds = _alone(_read_through, source, memory.budget_nbytes)
        memory.read_s.append(seconds)
        for shuffle, kept in ((False, memory.epoch_s), (True, memory.shuffled_s)):
            rss_nbytes, seconds = _alone(partial(_epoch, shuffle=shuffle), source, memory.budget_nbytes)
            kept.append(seconds)
            memory.epoch_rss_nbytes = max(memory.epoch_rss_nbytes, rss_nbytes)
    return memory


def _images(nbytes: int, folder: Path) -> Path:
    rows = nbytes // (SIDE * SIDE * 2)
    path = folder / f"images-{rows}-of-{SIDE}.arrow"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kind = pa.fixed_shape_tensor(pa.uint16(), (SIDE, SIDE))
        schema = pa.schema({"image": kind, "label": pa.int64()})
        write_table(pa.RecordBatchReader.from_batches(schema, _batches(rows, schema)), path)
    return path


def _batches(rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rng = np.random.Generator(np.random.PCG64(0))
    for start in range(0, rows, BATCH_SIZE):
        count = min(BATCH_SIZE, rows - start)
        pixels = rng.integers(0, 1 << 16, (count, SIDE, SIDE), np.uint16)
        columns = [pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), pa.array(np.arange(start, start + count))]
        yield pa.record_batch(columns, schema=schema)


def _store(source: Path, budget_nbytes: int) -> Any:
    with closing(open_table(source)) as table:
        return optimize(table, cache="mapped", cache_dir=source.parent / "caches", memory_budget=budget_nbytes)


def _consume(store: Any, *, shuffle: bool) -> None:
    with ReferenceLoader(store, batch_size=BATCH_SIZE, shuffle=shuffle, seed=0) as loader:
        for batch in loader:
            batch["image"][0, 0, 0].item()


@contextmanager
def _process(work: Callable[..., None], *given: Any) -> Iterator[Any]:
    """A new process that runs ``work(pipe, *given)``, and our end of the pipe; EOFError if it dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, *given))
    process.start()
    theirs.close()
    try:
        yield ours
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()


def _alone(work: Callable[[Path, int], float], source: Path, budget_nbytes: int) -> tuple[int, float]:
    """The peak RSS of a new process that runs ``work``, and the result of ``work``."""
    with _process(_tell, work, source, budget_nbytes) as pipe:
        told: tuple[int, float] = pipe.recv()
        return told


def _tell(pipe: Any, work: Callable[[Path, int], float], source: Path, budget_nbytes: int) -> None:
    returned = work(source, budget_nbytes)
    pipe.send((_nbytes_of("status", "VmHWM"), returned))  # ru_maxrss begins with that of the parent


def _build(source: Path, budget_nbytes: int) -> float:
    _store(source, budget_nbytes)
    return 0.0


def _epoch(source: Path, budget_nbytes: int, *, shuffle: bool) -> float:
    store = _store(source, budget_nbytes)
    _forget(store.path)
    began_s = time.perf_counter()
    _consume(store, shuffle=shuffle)
    return time.perf_counter() - began_s


def _read_through(source: Path, budget_nbytes: int) -> float:
    path = _store(source, budget_nbytes).path
    _forget(path)
    buffer = bytearray(READ_NBYTES)
    began_s = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began_s


def _forget(path: Path) -> None:
    """Drop the system's cache of a file, so that it is read from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _shared(source: Path) -> tuple[int, int]:
    """Bytes of the rows, and by how much the PSS of four processes grew that loaded all of them."""
    context = multiprocessing.get_context("spawn")
    store, barrier = _store(source, 1 << 40), context.Barrier(PROCESSES, timeout=_PATIENCE_S)
    with ExitStack() as running:
        pipes = [running.enter_context(_process(_share, store, barrier)) for _ in range(PROCESSES)]
        return store.path.stat().st_size, sum(pipe.recv() for pipe in pipes)


def _share(pipe: Any, store: Any, barrier: Any) -> None:
    _consume({"image": np.zeros((BATCH_SIZE, SIDE, SIDE), np.uint16)}, shuffle=True)  # what a first use brings in
    barrier.wait()
    before = _pss_nbytes()
    barrier.wait()
    _consume(store, shuffle=True)
    barrier.wait()
    after = _pss_nbytes()
    barrier.wait()
    pipe.send(after - before)


def _pss_nbytes() -> int:
    """Physical memory of this process; shared memory counts by its share."""
    return _nbytes_of("smaps_rollup", "Pss")


def _nbytes_of(file: str, name: str) -> int:
    """A figure of the system about this process, in bytes, read in kB."""
    lines = Path("/proc/self", file).read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
