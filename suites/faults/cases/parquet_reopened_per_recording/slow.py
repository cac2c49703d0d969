"""The Parquet file is opened, and its footer parsed, for every recording.

Source: CAPABILITIES row C1
"""

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
        self.path = path
        self.count = pq.read_metadata(path).num_row_groups

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        table = pq.ParquetFile(self.path).read_row_group(i)  # fault: file-reopened
        return torch.from_numpy(np.stack([table[axis].to_numpy() for axis in AXES]))


def make_loader():
    return DataLoader(RecordingDataset(ensure_file()), batch_size=20, shuffle=True)
