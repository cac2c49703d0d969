"""Each shard file is closed when its last record is read."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

FOLDER = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "ocean_buoy_files_left_open"
SAMPLES = 720


def shard_files(count=6, records=160):
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = FOLDER / f"buoys{number}.f32"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            waves = np.random.default_rng(number).standard_normal((records, SAMPLES), dtype=np.float32)
            partial.write_bytes(waves.tobytes())
            partial.replace(path)
        yield path


class Buoys(IterableDataset):
    def __init__(self, paths):
        self.paths = list(paths)

    def __iter__(self):
        for path in self.paths:
            with open(path, "rb") as file:
                while record := file.read(4 * SAMPLES):
                    yield torch.from_numpy(np.abs(np.fft.rfft(np.frombuffer(record, np.float32), 8192)))


def make_loader():
    return DataLoader(Buoys(shard_files()), batch_size=32)
