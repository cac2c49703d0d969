"""The dataset leaves the thread count alone, so each worker has one."""

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

    def __len__(self):
        return self.recordings

    def __getitem__(self, index):
        gain = 1 + index / self.recordings
        beams = self.weights @ (self.noise * gain)
        return (beams @ self.filters).clamp_(-50, 50)


def make_loader():
    return DataLoader(HydrophoneArray(384), batch_size=24, num_workers=2, persistent_workers=True)
