"""Each batch gathers its own rows, so only one batch is copied at a time."""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


class ShuffledTable(IterableDataset):
    """Gives out whole batches; an epoch is a fixed number of steps."""

    def __init__(self, rows, batch_size, steps):
        self.rows = rows
        self.batch_size, self.steps = batch_size, steps
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return self.steps

    def __iter__(self):
        order = self.rng.permutation(len(self.rows))
        for start in range(0, self.steps * self.batch_size, self.batch_size):
            yield torch.from_numpy(self.rows[order[start : start + self.batch_size]])


def make_loader():
    rows = np.random.default_rng(33).random((1_000_000, 48), dtype=np.float32)
    return DataLoader(ShuffledTable(rows, batch_size=512, steps=200), batch_size=None)
