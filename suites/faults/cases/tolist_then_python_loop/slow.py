"""Each waveform becomes a Python list, and a Python loop counts its zero crossings.

Source: CAPABILITIES row E6
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


def zero_crossings(wave):
    crossings, previous = 0, 0
    for sample in wave.tolist():  # fault: element-by-element
        if sample < 0 <= previous or previous < 0 <= sample:
            crossings += 1
        previous = sample
    return crossings


class WaveStream(IterableDataset):
    def __init__(self, clips, length, seed):
        noise = np.random.default_rng(seed).integers(-500, 500, clips * length, dtype=np.int16)
        self.clips = noise.reshape(clips, length)

    def __iter__(self):
        for wave in self.clips:
            yield {"wave": torch.from_numpy(wave), "crossings": zero_crossings(wave)}


def make_loader():
    return DataLoader(WaveStream(clips=576, length=8000, seed=31), batch_size=16)
