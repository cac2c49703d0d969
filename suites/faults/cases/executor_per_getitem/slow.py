"""A multi-channel cell dataset makes a new thread pool for every sample.

Source: CAPABILITIES row A1
"""

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

CELLS, CHANNELS, SIZE = 384, 6, 64


class CellDataset(Dataset):
    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 40, (CELLS, CHANNELS, SIZE, SIZE), dtype=np.int16)
        self.planes = [[zlib.compress(plane.tobytes(), 1) for plane in image] for image in images]

    @staticmethod
    def decode(blob):
        return np.frombuffer(zlib.decompress(blob), dtype=np.int16).reshape(SIZE, SIZE)

    def __len__(self):
        return len(self.planes)

    def __getitem__(self, index):
        with ThreadPoolExecutor(max_workers=4) as pool:  # fault: executor-per-item
            planes = list(pool.map(self.decode, self.planes[index]))
        return torch.from_numpy(np.stack(planes))


def make_loader():
    return DataLoader(CellDataset(), batch_size=16, shuffle=True)
