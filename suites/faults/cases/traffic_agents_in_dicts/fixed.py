"""A worker hands over one packed tensor a batch, and the main process takes the samples apart as views."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

SCALARS = ["x", "y", "z", "heading", "speed", "length", "width", "height", "mass", "drag", "age", "lane", "gap", "time"]
VECTORS = {"past": 20, "future": 30, "lights": 6, "limits": 8, "mirrors": 4, "wheels": 4}


class Agents(Dataset):
    def __init__(self, count):
        self.table = np.random.default_rng(4).random((count, 86), dtype=np.float32)

    def __len__(self):
        return len(self.table)

    def __getitem__(self, index):
        return torch.from_numpy(np.sort(np.fft.irfft(self.table[index], 8192).astype(np.float32, copy=False))[:86])


class AgentLoader:
    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for packed in self.loader:
            yield [self.unpacked(row) for row in packed]

    def unpacked(self, row):
        sample = dict(zip(SCALARS, row[:14].unbind()))
        sample.update(zip(VECTORS, row[14:].split(list(VECTORS.values()))))
        return sample


def make_loader():
    return AgentLoader(DataLoader(Agents(320), batch_size=8, num_workers=2, persistent_workers=True))
