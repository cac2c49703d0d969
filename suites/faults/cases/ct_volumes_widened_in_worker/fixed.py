"""Workers send the volumes as bytes, and the main process alone widens them."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Volumes(Dataset):
    shape = (32, 160, 160)

    def __init__(self, count):
        rng = np.random.default_rng(12)
        self.scan = rng.integers(0, 255, (self.shape[0] + count, *self.shape[1:]), dtype=np.uint8)
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        volume = self.scan[index : index + self.shape[0], ::-1]
        return torch.from_numpy(volume.copy())


class ScaledToUnit:
    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for volumes in self.loader:
            yield volumes.to(torch.float32).div_(255)


def make_loader():
    return ScaledToUnit(DataLoader(Volumes(96), batch_size=4, num_workers=2, persistent_workers=True))
