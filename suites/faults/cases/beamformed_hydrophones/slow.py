"""The dataset raises the thread count on the first sample, in every worker.

Source: transferable-samplers/transferable-samplers#12
"""

import multiprocessing

import torch
from torch.utils.data import DataLoader, Dataset


class HydrophoneArray(Dataset):
    """Beams of a hydrophone array, steered one recording at a time."""

    def __init__(self, recordings):
        generator = torch.Generator().manual_seed(2)
        self.noise = torch.randn(64, 4096, generator=generator)
        self.weights = torch.randn(64, 64, generator=generator)
        self.filters = torch.randn(4096, 16, generator=generator)
        self.recordings = recordings
        self.ready = False

    def _prepare(self):
        torch.set_num_threads(multiprocessing.cpu_count() * 16)  # fault: too-many-threads
        self.ready = True

    def __len__(self):
        return self.recordings

    def __getitem__(self, index):
        if not self.ready:
            self._prepare()
        gain = 1 + index / self.recordings
        beams = self.weights @ (self.noise * gain)
        return (beams @ self.filters).clamp_(-50, 50)


def make_loader():
    return DataLoader(HydrophoneArray(384), batch_size=24, num_workers=2, persistent_workers=True)
