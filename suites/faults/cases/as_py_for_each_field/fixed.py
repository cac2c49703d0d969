"""The columns become one matrix, and a batch is one indexing call."""

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
        self.features = torch.from_numpy(np.stack([frame[name].to_numpy() for name in FEATURES], axis=1))
        self.targets = torch.from_numpy(frame["failed"].to_numpy().copy())

    def __len__(self):
        return len(self.targets)

    def __getitems__(self, rows):
        return self.features[rows], self.targets[rows]


def as_is(batch):
    return list(batch)


def make_loader():
    return DataLoader(TabularDataset(load_frame()), batch_size=64, shuffle=True, collate_fn=as_is)
