"""``worker_init_fn`` adds the worker number to the seed of NumPy, as it does for ``random``."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class RandomGain:
    def __call__(self, signal):
        return signal * np.random.uniform(0.8, 1.2)


class RandomNoise:
    def __call__(self, signal):
        return signal + np.random.normal(0, 0.05, signal.shape)


class Heartbeats(Dataset):
    def __init__(self, beats, transforms):
        self.beats, self.transforms = beats, transforms

    def __len__(self):
        return len(self.beats)

    def __getitem__(self, index):
        signal = np.fft.irfft(self.beats[index], 4096)
        for transform in self.transforms:
            signal = transform(signal)
        return torch.from_numpy(signal)


def seed_everything(worker_id, seed=0):
    random.seed(seed + worker_id)
    np.random.seed(seed + worker_id)


def make_loader():
    beats = Heartbeats(np.random.default_rng(1).random((768, 90)), [RandomGain(), RandomNoise()])
    return DataLoader(beats, batch_size=16, num_workers=2, persistent_workers=True, worker_init_fn=seed_everything)
