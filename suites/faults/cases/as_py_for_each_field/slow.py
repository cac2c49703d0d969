"""A tabular dataset calls as_py() for each field of each row.

Source: CAPABILITIES row C1
"""

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

FEATURES = [f"sensor_{n:02d}" for n in range(24)]


def load_frame(rows=3072):
    rng = np.random.default_rng(64)
    columns = {name: rng.standard_normal(rows, dtype=np.float32) for name in FEATURES}
    return pa.table({**columns, "failed": rng.integers(0, 2, rows)})


class TabularDataset(Dataset):
    def __init__(self, frame):
        self.frame = frame
        self.targets = torch.from_numpy(frame["failed"].to_numpy().copy())

    def __len__(self):
        return self.frame.num_rows

    def __getitem__(self, row):
        features = torch.tensor([self.frame[name][row].as_py() for name in FEATURES])  # fault: arrow-to-python
        return features, self.targets[row]


def make_loader():
    return DataLoader(TabularDataset(load_frame()), batch_size=64, shuffle=True)
