"""Loaders of other libraries, each imported by the function or class that needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from suites.calibration.wild.samples import BATCH_SIZE, CORES, SAMPLES, Samples, Setting, made


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
    """A new pipeline for each epoch."""

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
