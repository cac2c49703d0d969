"""What asv measures: a loader, torch's DataLoader and the machine's copy limit, in turns. Heavy to import."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader, measure, ms
from pytest_loaderperf.data import workload

QUICK = "LOADERPERF_ASV_QUICK"  # in the environment: fewer cases, each for a shorter time
SECONDS, QUICK_SECONDS = 3.0, 1.0  # of turns of both loaders
REPEATS = 3  # of what needs a new epoch: its end, its memory, a training loop
DOCTOR_SECONDS = 0.3
STEP = 1 * ms  # of the training loop that data wait is about
FOLDER = Path(__file__).parents[2] / ".loaderperf/asv"  # of data that are written once
IMAGES_IN_MEMORY = 4096  # 82 MB: 16 of the larger batches, of which a trial with workers needs 8
IMAGES, SIDE, BATCH_SIZE = 300, 100, 32  # 6 MB on disk: slow enough, where each is made of Python objects
ROUNDS, ACCESSES, TRIAL_NS, STEPS = 3, 200, 50_000_000, 40  # of the three tracks

Figures = dict[str, Any]
_GIVEN = {"threads": {"worker_kind": "threads"}, "processes": {"worker_kind": "processes"}}  # to ReferenceLoader


def of_workload(name: str, device: str, _opened: ExitStack) -> Figures:
    """A workload's arrays; tokens, which are rows of different lengths, sample by sample."""
    data = workload(name)
    batch_size, dataset = data.spec.batch_size, data.dataset()
    if data.spec.factory == "tokens":
        from pytest_loaderperf.loader import Collate

        return paired(
            lambda: ReferenceLoader(dataset, batch_size, shuffle=True, collate_fn=Collate("pad"), **_on(device)),
            lambda: DataLoader(dataset, batch_size, shuffle=True, collate_fn=_padded),
            device,
        )
    return paired(
        lambda: ReferenceLoader(data.arrays, batch_size, shuffle=True, **_on(device)),
        lambda: DataLoader(dataset, batch_size, shuffle=True),
        device,
    )


def _on(device: str) -> dict[str, Any]:
    """Keywords for a device; none for the CPU, so that commits before there were devices are measured, too."""
    return {} if device == "cpu" else {"device": device}


def _padded(samples: list[Any]) -> Any:
    rows, labels = zip(*samples, strict=True)
    return pad_sequence(rows, batch_first=True), torch.as_tensor(labels)


class Images:
    """As people write it: a copy of each image."""

    def __init__(self) -> None:
        self.images, self.labels = workload("images", samples=IMAGES_IN_MEMORY).arrays

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(self.images[index]), int(self.labels[index])


def of_path(path: str, batch_size: int, workers: int, device: str, _opened: ExitStack) -> Figures:
    """One way to make batches of the same images."""
    dataset = Images()
    source: Any = dataset
    if path == "arrays":
        source = dataset.images, dataset.labels
    elif path == "optimize":
        from pytest_loaderperf.data import optimize

        source = optimize(dataset)
    given: dict[str, Any] = {"num_workers": workers, **_on(device), **_GIVEN.get(path, {})}
    return paired(
        lambda: ReferenceLoader(source, batch_size, shuffle=True, **given),
        lambda: DataLoader(dataset, batch_size, shuffle=True),  # type: ignore[arg-type]
        device,
    )


def of_store(store: str, opened: ExitStack) -> Figures:
    """A Parquet file in one store."""
    return _on_disk("parquet", store, opened)


def of_format(kind: str, opened: ExitStack) -> Figures:
    """One format on disk, read at once."""
    return _on_disk(kind, "whole", opened)


def _on_disk(kind: str, store: str, opened: ExitStack) -> Figures:
    made = _made(kind)
    after, before = made.after(opened, store), made.before(opened)
    return paired(
        lambda: ReferenceLoader(after, BATCH_SIZE, shuffle=True, num_workers=0),
        lambda: DataLoader(before, BATCH_SIZE, shuffle=True),
    )


def _made(kind: str) -> Any:
    """The images in that format, written on the first request. Raises NotImplementedError if they cannot be."""
    from suites.tracks.images import made as images
    from suites.tracks.inputs import made

    found = made(kind, images(IMAGES), FOLDER)
    if isinstance(found, str):
        raise NotImplementedError(found)
    return found


def of_track(kind: str, loaded: str, opened: ExitStack) -> Figures:
    """The medians of several rounds of the three tracks."""
    from suites.tracks import tracks

    made = _made(kind)
    if loaded == "pre-loaded":
        dataset = made.after(opened, "whole")
        loader: Any = opened.enter_context(ReferenceLoader(dataset, BATCH_SIZE, shuffle=True))
    else:
        dataset = made.before(opened)
        loader = DataLoader(dataset, BATCH_SIZE, shuffle=True)
    training, rounds = tracks.Training(SIDE * SIDE, "cpu"), range(ROUNDS)
    return {
        "sample": median(tracks.sample_ns(dataset, ACCESSES, TRIAL_NS, seed=turn) for turn in rounds) * 1e-9,
        "seconds_per_sample": 1 / median(tracks.samples_per_s(loader, TRIAL_NS) for _ in rounds),
        "training_wait": median(tracks.data_wait(loader, training, STEPS, 4 * TRIAL_NS) for _ in rounds),
    }


def paired(make: Callable[[], Any], plain: Callable[[], Any], device: str = "cpu") -> Figures:
    """All figures of a loader that ``make`` makes, in turns with ``plain``, torch's."""
    quick = bool(os.environ.get(QUICK))
    figures: Figures = {}
    with measure(make, against=plain, **_on(device)) as run:
        run.look_until(QUICK_SECONDS if quick else SECONDS)
        metrics = {
            "throughput": run.throughput,
            "batch_latency_p50": run.batch_latency.p50,
            "batch_latency_p99": run.batch_latency.p99,
            "first_batch": run.first_batch,
            "epoch_exit": run.epoch_exit,
            "data_wait": run.data_wait(step=STEP),
            "cpu_seconds_per_1k": run.cpu_seconds_per_1k,
            "peak_memory": run.peak_memory,
        }
        for name in ("epoch_exit", "data_wait", "peak_memory"):
            for _ in range(0 if quick else REPEATS - 1):
                run.rounds.observe([metrics[name].key])
        figures.update({name: metric.value for name, metric in metrics.items()})
        figures["seconds_per_sample"] = 1 / figures.pop("throughput")
        for other, name in (("against", "time_to_dataloader"), ("roofline", "time_to_roofline")):
            figures[name] = 1 / run.ratio("loader", other).value
    return figures | _counts(make)


def _counts(make: Callable[[], Any]) -> Figures:
    """The counts of the doctor; none where the measured commit has no doctor."""
    try:
        from pytest_loaderperf.diagnosis import diagnose
    except ImportError:
        return {}
    found = diagnose(make, seconds=DOCTOR_SECONDS, epochs=1)
    names = ("copies_per_batch", "executors_made", "files_opened")
    return {name: getattr(found, name, math.nan) for name in names}
