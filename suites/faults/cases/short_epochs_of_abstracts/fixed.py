"""Workers live on from epoch to epoch, so each builds its word table once."""

import zlib

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Abstracts(Dataset):
    def __init__(self, packed):
        self.packed = packed
        self.table = None

    def build_table(self):
        words = np.random.default_rng(5).integers(0, 26**4, 400_000).tolist()
        self.table = {word: rank for rank, word in enumerate(sorted(set(words)))}

    def __len__(self):
        return len(self.packed)

    def __getitem__(self, index):
        if self.table is None:
            self.build_table()
        words = np.frombuffer(zlib.decompress(self.packed[index]), np.int32)
        return torch.from_numpy(np.bincount(words % 1024, minlength=1024)), self.table.get(int(words[0]), -1)


def make_loader():
    rng = np.random.default_rng(7)
    packed = [zlib.compress(rng.integers(0, 26**4, 4000, dtype=np.int32).tobytes()) for _ in range(256)]
    return DataLoader(Abstracts(packed), batch_size=16, num_workers=2, persistent_workers=True)
