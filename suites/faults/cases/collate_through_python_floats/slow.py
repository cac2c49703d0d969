"""A collate unpacks every array into a Python list and builds the batch tensor from the lists.

Source: CAPABILITIES row B1
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Beat(NamedTuple):
    wave: np.ndarray
    lead: str


class EcgBeats(Dataset):
    def __init__(self, beats=1024, length=540):
        rng = np.random.default_rng(77)
        self.record = rng.standard_normal(beats * 40 + length, dtype=np.float32)
        self.starts = range(0, beats * 40, 40)
        self.length = length

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        wave = self.record[self.starts[i] : self.starts[i] + self.length]
        return Beat(wave - np.median(wave), f"V{i % 6 + 1}")


def collate_beats(beats):
    waves = torch.tensor([list(beat.wave) for beat in beats])  # fault: list-to-array
    return {"wave": waves, "lead": [beat.lead for beat in beats]}


def make_loader():
    return DataLoader(EcgBeats(), batch_size=32, shuffle=True, collate_fn=collate_beats)
