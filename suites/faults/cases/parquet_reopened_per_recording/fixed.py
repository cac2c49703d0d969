"""The dataset keeps one open ParquetFile."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

DATA_DIR = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "parquet_reopened_per_recording"
AXES, STEPS = ("acc_x", "acc_y", "acc_z"), 100


def ensure_file(recordings=300):
    target = DATA_DIR / "recordings.parquet"
    if not target.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(23)
        table = pa.table({axis: rng.random(recordings * STEPS, dtype=np.float32) for axis in AXES})
        pq.write_table(table, part := DATA_DIR / f"part-{os.getpid()}", row_group_size=STEPS)
        part.replace(target)
    return str(target)


class RecordingDataset(Dataset):
    def __init__(self, path):
        self.file = pq.ParquetFile(path)
        self.count = self.file.metadata.num_row_groups

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        table = self.file.read_row_group(i)
        return torch.from_numpy(np.stack([table[axis].to_numpy() for axis in AXES]))


def make_loader():
    return DataLoader(RecordingDataset(ensure_file()), batch_size=20, shuffle=True)
