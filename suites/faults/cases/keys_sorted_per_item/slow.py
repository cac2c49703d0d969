"""All keys are sorted again to find the key of one sample.

Source: CAPABILITIES row E4
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class KeyedStore:
    """Stands for an LMDB or HDF5 reader: arrays by name."""

    def __init__(self, count):
        rng = np.random.default_rng(44)
        self.arrays = {f"mol-{n:x}": rng.random((rng.integers(4, 24), 3), dtype=np.float32) for n in range(count)}

    def keys(self):
        return self.arrays.keys()

    def read(self, key):
        return self.arrays[key]


class PointSets(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return len(self.store.keys())

    def __getitem__(self, i):
        key = sorted(self.store.keys())[i]  # fault: scan-per-item
        points = self.store.read(key)
        return torch.from_numpy(points - points.mean(axis=0))


def make_loader():
    return DataLoader(PointSets(KeyedStore(2400)), batch_size=30, shuffle=True, collate_fn=torch.cat)
