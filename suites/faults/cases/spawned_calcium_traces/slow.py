"""The dataset holds 65 MB of arrays, which are pickled to one spawned worker after the other.

Source: pytorch/pytorch#139792
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

FOLDER = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "spawned_calcium_traces"


def recording():
    path = FOLDER / "traces.npy"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = FOLDER / f"traces.{os.getpid()}.npy"
        np.save(partial, np.random.default_rng(0).random((64_000, 256), dtype=np.float32))
        partial.replace(path)
    return path


class CalciumTraces(Dataset):
    cells_per_sample = 128

    def __init__(self, path):
        self.traces = list(np.load(path))

    def __len__(self):
        return len(self.traces) // self.cells_per_sample

    def __getitem__(self, index):
        first = index * self.cells_per_sample
        cells = np.stack(self.traces[first : first + self.cells_per_sample])
        return torch.from_numpy(np.sort(cells, axis=0)[::16].copy())


def make_loader():
    options = dict(batch_size=20, num_workers=2, persistent_workers=True, multiprocessing_context="spawn")
    return DataLoader(CalciumTraces(recording()), **options)  # fault: pickled-dataset
