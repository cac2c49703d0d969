"""A loader that counts what it delivers also keeps every batch in a list, to plot some of them later.

Source: pytorch/pytorch#62066
"""

import io

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class LeafImages(Dataset):
    def __init__(self, count, size=96):
        rng = np.random.default_rng(19)
        self.jpegs = []
        for level in rng.integers(40, 200, count):
            file = io.BytesIO()
            Image.fromarray(rng.integers(level, level + 40, (size, size, 3), dtype=np.uint8)).save(file, "JPEG")
            self.jpegs.append(file.getvalue())

    def __len__(self):
        return len(self.jpegs)

    def __getitem__(self, index):
        return torch.from_numpy(np.array(Image.open(io.BytesIO(self.jpegs[index])), dtype=np.float32))


class StatisticsLoader:
    def __init__(self, loader):
        self.loader, self.delivered, self.shown = loader, 0, []

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for images in self.loader:
            self.delivered += len(images)
            self.shown.append(images)  # fault: memory-kept
            yield images


def make_loader():
    return StatisticsLoader(DataLoader(LeafImages(384), batch_size=24, shuffle=True))
