"""Workers hand over lists of samples with twenty small tensors each, and every tensor is shared on its own.

Source: pytorch/pytorch#123439
"""

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
        row = torch.from_numpy(np.sort(np.fft.irfft(self.table[index], 8192).astype(np.float32, copy=False))[:86])
        sample = dict(zip(SCALARS, row[:14].clone()))
        sample.update(zip(VECTORS, (part.clone() for part in row[14:].split(list(VECTORS.values())))))
        return sample


def keep_list(samples):
    return samples  # fault: many-small-tensors


def make_loader():
    options = dict(num_workers=2, persistent_workers=True, collate_fn=keep_list)
    return DataLoader(Agents(320), batch_size=8, **options)
