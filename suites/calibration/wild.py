"""Loaders as real projects have them: each over a dataset whose samples take a known time, by a busy wait.

A factory imports its library itself: ModuleNotFoundError where it is not installed. An epoch is 3,000 batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info

from pytest_loaderperf import ReferenceLoader

BATCH_SIZE = 8
BATCHES = 3000
SAMPLES = BATCHES * BATCH_SIZE
CORES = 2  # workers or threads of each loader
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Setting:
    """Seconds that a sample takes, and an empty folder that a loader's two sides share."""

    sample_s: float
    folder: Path


class Samples(Dataset[Any]):
    """Map-style; ``{"x": float32 (16,), "y": int}``."""

    thread_safe = process_safe = True  # nothing is held open, nothing drawn

    def __init__(self, setting: Setting) -> None:
        self._sample_s = setting.sample_s

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return made({"y": int(index)}, self._sample_s)


class Stream(IterableDataset[Any]):
    """Iterable-style, each worker its share."""

    def __init__(self, setting: Setting) -> None:
        self._samples = Samples(setting)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return map(self._samples.__getitem__, range(first, SAMPLES, step))


def made(row: dict[str, Any], sample_s: float) -> dict[str, Any]:
    """A sample, after the busy wait."""
    end_s = time.perf_counter() + sample_s
    while time.perf_counter() < end_s:
        pass
    return {"x": np.zeros(16, np.float32), **row}


def workers(setting: Setting, **more: Any) -> Any:
    return DataLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, **more)


def persistent_workers(setting: Setting) -> Any:
    return workers(setting, shuffle=True, persistent_workers=True)


def in_process(setting: Setting) -> Any:
    return DataLoader(Samples(setting), BATCH_SIZE)


def iterable_workers(setting: Setting) -> Any:
    return DataLoader(Stream(setting), BATCH_SIZE, num_workers=CORES)


def reference_threads(setting: Setting) -> Any:
    return ReferenceLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, worker_kind="threads")


def reference_processes(setting: Setting) -> Any:
    return ReferenceLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, worker_kind="processes")


class Wrapper:
    """Says ``num_workers`` and no ``prefetch_factor``, as cellmap-data's CellMapDataLoader."""

    num_workers = CORES

    def __init__(self, setting: Setting) -> None:
        self._loader = workers(setting, prefetch_factor=4, persistent_workers=True)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


class PatchQueue(Dataset[Any]):
    """A dataset that takes its samples from a loader with workers inside it, as torchio.Queue."""

    def __init__(self, setting: Setting) -> None:
        self._inner, self._iterator, self._rows = workers(setting), None, []

    def __len__(self) -> int:
        return SAMPLES - BATCH_SIZE * CORES

    def __getitem__(self, index: int) -> Any:
        if not self._rows:
            self._rows = list(self._next()["x"])
        return self._rows.pop()

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._inner)
        try:
            return next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._inner)
            return next(self._iterator)


def hidden_workers(setting: Setting) -> Any:
    return DataLoader(PatchQueue(setting), BATCH_SIZE)


class Threads:
    """Threads that make batches into a bounded queue, as SPDL's pipelines and MONAI's ThreadDataLoader do."""

    def __init__(self, setting: Setting) -> None:
        self._samples = Samples(setting)

    def __iter__(self) -> Iterator[Any]:
        ready: Queue[Any] = Queue(2 * CORES)
        starts, stopped = iter(range(0, SAMPLES, BATCH_SIZE)), Event()

        def fill() -> None:
            while (start := next(starts, None)) is not None and not stopped.is_set():
                ready.put(default_collate([self._samples[start + i] for i in range(BATCH_SIZE)]))

        threads = [Thread(target=fill, daemon=True) for _ in range(CORES)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(BATCHES):
                yield ready.get()
        finally:
            stopped.set()
            while any(thread.is_alive() for thread in threads):
                with suppress(Empty):
                    ready.get(timeout=_POLL_SECONDS)


class ArrowScanner:
    """Record batches of Arrow's scanner, which reads ahead on a pool; each takes as long as others' batches."""

    def __init__(self, setting: Setting) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._wait_s = setting.sample_s * BATCH_SIZE
        self._file = setting.folder / "rows.parquet"
        if not self._file.exists():
            rows = pa.table({"x": np.random.default_rng(0).random(256 * BATCHES)})
            pq.write_table(rows, self._file, row_group_size=256)

    def __iter__(self) -> Iterator[Any]:
        import pyarrow.dataset as ds

        for batch in ds.dataset(self._file, format="parquet").to_batches(batch_size=256):
            made({}, self._wait_s)
            yield batch


def stateful_data_loader(setting: Setting) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(Samples(setting), BATCH_SIZE, num_workers=CORES)


def _nodes(setting: Setting, method: str) -> Any:
    import torchdata.nodes as tn
    from torch.utils.data import SequentialSampler

    samples = Samples(setting)
    indices = tn.Batcher(tn.SamplerWrapper(SequentialSampler(samples)), batch_size=BATCH_SIZE)
    mapped = tn.ParallelMapper(indices, Collated(samples), num_workers=CORES, method=method)
    return tn.Loader(tn.Prefetcher(mapped, prefetch_factor=2 * CORES))


class Collated:
    """Batches from lists of indices."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __call__(self, indices: Sequence[int]) -> Any:
        return default_collate([self._samples[index] for index in indices])


def nodes_threads(setting: Setting) -> Any:
    return _nodes(setting, "thread")


def nodes_processes(setting: Setting) -> Any:
    return _nodes(setting, "process")


class SpdlPipeline:
    """A pipeline built anew for each epoch."""

    def __init__(self, setting: Setting) -> None:
        from spdl.pipeline import PipelineBuilder

        self._builder, self._fetch = PipelineBuilder, Collated(Samples(setting))

    def __iter__(self) -> Iterator[Any]:
        source = (range(start, start + BATCH_SIZE) for start in range(0, SAMPLES, BATCH_SIZE))
        builder = self._builder().add_source(source).pipe(self._fetch, concurrency=CORES).add_sink(2 * CORES)
        pipeline = builder.build(num_threads=CORES)
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()


def spdl_processes(setting: Setting) -> Any:
    from spdl.dataloader import get_pytorch_dataloader

    return get_pytorch_dataloader(Samples(setting), BATCH_SIZE, num_workers=CORES)


def grain_threads(setting: Setting) -> Any:
    import grain

    options = grain.ReadOptions(num_threads=CORES, prefetch_buffer_size=2 * CORES)
    return grain.MapDataset.source(Samples(setting)).batch(BATCH_SIZE).to_iter_dataset(options)


def grain_processes(setting: Setting) -> Any:
    import grain

    dataset = grain.MapDataset.source(Samples(setting)).batch(BATCH_SIZE).to_iter_dataset()
    return dataset.mp_prefetch(grain.MultiprocessingOptions(CORES, per_worker_buffer_size=2))


class Transform:
    """The busy wait for each row of a batch of columns."""

    def __init__(self, setting: Setting) -> None:
        self._sample_s = setting.sample_s

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return default_batch([made({"y": y}, self._sample_s) for y in rows["y"]])


def default_batch(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def hf_datasets(setting: Setting) -> Any:
    from datasets import Dataset as Table

    table = Table.from_dict({"y": list(range(SAMPLES))}).with_transform(Transform(setting))
    return DataLoader(table, BATCH_SIZE, num_workers=CORES)


def hf_streaming(setting: Setting) -> Any:
    from datasets import Dataset as Table

    table = Table.from_dict({"y": list(range(SAMPLES))}).to_iterable_dataset(num_shards=CORES)
    stream = table.shuffle(seed=1, buffer_size=200).map(Transform(setting), batched=True, batch_size=BATCH_SIZE)
    return DataLoader(stream, BATCH_SIZE, num_workers=CORES)


def lit_data(setting: Setting) -> Any:
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    chunks = str(setting.folder / "chunks")
    if not Path(chunks).exists():
        optimize(
            int, list(range(SAMPLES)), chunks, chunk_bytes="1MB", num_workers=1, start_method="fork", verbose=False
        )
    dataset = StreamingDataset(chunks, shuffle=False, transform=Samples(setting).__getitem__)
    return StreamingDataLoader(dataset, batch_size=BATCH_SIZE, num_workers=CORES)


def web_dataset(setting: Setting) -> Any:
    import webdataset as wds

    if not any(setting.folder.glob("*.tar")):
        with wds.ShardWriter(str(setting.folder / "%04d.tar"), maxcount=SAMPLES // (2 * CORES), verbose=0) as writer:
            for index in range(SAMPLES):
                writer.write({"__key__": f"{index:08d}", "cls": index})
    shards = sorted(map(str, setting.folder.glob("*.tar")))
    batches = wds.WebDataset(shards, shardshuffle=False).map(WebSample(setting)).batched(BATCH_SIZE)
    return wds.WebLoader(batches, batch_size=None, num_workers=CORES)


class WebSample:
    """A stored sample, made."""

    def __init__(self, setting: Setting) -> None:
        self._sample_s = setting.sample_s

    def __call__(self, stored: dict[str, Any]) -> tuple[np.ndarray, int]:
        return made({}, self._sample_s)["x"], int(stored["cls"])


class RayBatches:
    """Ray Data on a local cluster of this process."""

    def __init__(self, setting: Setting) -> None:
        import ray

        ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
        self._table = ray.data.range(SAMPLES).map_batches(RayTransform(setting), batch_size=BATCH_SIZE)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table.iter_torch_batches(batch_size=BATCH_SIZE, prefetch_batches=2))


class RayTransform(Transform):
    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return super().__call__({"y": rows["id"]})


def tensor_dict(setting: Setting) -> Any:
    from tensordict import TensorDict

    return DataLoader(Samples(setting), BATCH_SIZE, num_workers=CORES, collate_fn=TensorDictOf(TensorDict))


class TensorDictOf:
    """A collate function whose batches are TensorDicts."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Any:
        return self._kind({"x": torch.from_numpy(np.stack([row["x"] for row in rows]))}, batch_size=[len(rows)])


def monai_threads(setting: Setting) -> Any:
    from monai.data import ThreadDataLoader

    return ThreadDataLoader(Samples(setting), batch_size=BATCH_SIZE, num_workers=CORES, use_thread_workers=True)


def fastai_loader(setting: Setting) -> Any:
    from fastai.data.load import DataLoader as FastLoader

    return FastLoader(Samples(setting), bs=BATCH_SIZE, num_workers=CORES)


def torchio_queue(setting: Setting) -> Any:
    import torchio as tio

    volume = tio.Subject(image=tio.ScalarImage(tensor=torch.zeros(1, 16, 16, 16)))
    wait = tio.Lambda(Waiting(setting))
    subjects = tio.SubjectsDataset([volume] * (SAMPLES // BATCH_SIZE), transform=wait)
    sampler = tio.UniformSampler(8)
    queue = tio.Queue(subjects, 4 * BATCH_SIZE, BATCH_SIZE, sampler, num_workers=CORES, shuffle_subjects=False)
    return DataLoader(queue, BATCH_SIZE, collate_fn=list)


class Waiting:
    """A transform of a volume that takes as long as a batch's samples."""

    def __init__(self, setting: Setting) -> None:
        self._wait_s = setting.sample_s * BATCH_SIZE

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        made({}, self._wait_s)
        return volume


Make = Callable[[Setting], Any]
KINDS: dict[str, Make] = {
    "DataLoader, in process": in_process,
    "DataLoader, 2 workers": workers,
    "DataLoader, 2 persistent workers": persistent_workers,
    "DataLoader, IterableDataset, 2 workers": iterable_workers,
    "ReferenceLoader, 2 threads": reference_threads,
    "ReferenceLoader, 2 processes": reference_processes,
    "wrapper (cellmap-data-like)": Wrapper,
    "loader hidden in a dataset (torchio.Queue-like)": hidden_workers,
    "threads and a queue (SPDL-like)": Threads,
    "Arrow scanner": ArrowScanner,
    "StatefulDataLoader, 2 workers": stateful_data_loader,
    "torchdata.nodes, 2 threads": nodes_threads,
    "torchdata.nodes, 2 processes": nodes_processes,
    "SPDL pipeline, 2 threads": SpdlPipeline,
    "SPDL PyTorchDataLoader, 2 processes": spdl_processes,
    "Grain, 2 threads": grain_threads,
    "Grain, 2 processes": grain_processes,
    "HF datasets, 2 workers": hf_datasets,
    "HF datasets streamed, shuffled, 2 workers": hf_streaming,
    "LitData, 2 workers": lit_data,
    "WebDataset, 2 workers": web_dataset,
    "Ray Data": RayBatches,
    "tensordict batches, 2 workers": tensor_dict,
    "MONAI ThreadDataLoader, 2 threads": monai_threads,
    "fastai, 2 workers": fastai_loader,
    "TorchIO queue": torchio_queue,
}


def samples_of(name: str) -> Callable[[Any], int] | None:
    """``count=`` for batches whose samples cannot be seen in their structure; None for all others."""
    return {"Arrow scanner": len, "TorchIO queue": len}.get(name)


def first_batches(name: str, setting: Setting, number: int) -> list[Any]:
    """So many batches of a loader of that kind."""
    return list(islice(iter(KINDS[name](setting)), number))
