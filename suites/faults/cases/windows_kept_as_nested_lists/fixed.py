"""The windows become one tensor, when the dataset is made."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


def parse_export(windows=768, steps=128, channels=9):
    """Stands for a parser of a JSON export: it gives lists of lists of floats."""
    return np.random.default_rng(8).normal(size=(windows, steps, channels)).tolist()


class ActivityDataset(Dataset):
    def __init__(self, windows, max_shift=4):
        self.windows = torch.tensor(windows)
        self.max_shift, self.rng = max_shift, random.Random(5)

    def __len__(self):
        return len(self.windows)

    def shift(self, window):
        return window.roll(self.rng.randint(-self.max_shift, self.max_shift), dims=0)

    def __getitem__(self, i):
        return self.shift(self.windows[i])


def make_loader():
    return DataLoader(ActivityDataset(parse_export()), batch_size=24, shuffle=True)
