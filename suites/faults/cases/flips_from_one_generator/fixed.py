"""Each worker makes a generator from its own seed, when it makes its first sample."""

import zlib

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class GalaxyCutouts(Dataset):
    def __init__(self, count=384, size=192, train=True):
        noise = np.random.default_rng(41).integers(12, 28, (count, size, size), dtype=np.uint8)
        self.packed = [zlib.compress(cutout.tobytes(), 1) for cutout in noise]
        self.shape = (size, size)
        self.train = train
        self.rng = None

    def augment(self, cutout):
        if self.rng.random() < 0.5:
            cutout = cutout[:, ::-1]
        return np.roll(cutout, self.rng.integers(-8, 9, size=2), axis=(0, 1))

    def __len__(self):
        return len(self.packed)

    def __getitem__(self, index):
        cutout = np.frombuffer(zlib.decompress(self.packed[index]), np.uint8).reshape(self.shape)
        if self.rng is None:
            self.rng = np.random.default_rng(torch.initial_seed())
        if self.train:
            cutout = self.augment(cutout)
        return torch.from_numpy(np.sqrt(cutout, dtype=np.float32))


def make_loader():
    return DataLoader(GalaxyCutouts(), batch_size=16, num_workers=2, persistent_workers=True)
