"""The collate function leaves garbage collection to Python."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class ThermalImages(Dataset):
    """Small thermal pictures, made six times larger."""

    def __init__(self, count=320):
        rng = np.random.default_rng(3)
        self.pictures = rng.random((count, 16, 16), dtype=np.float32)
        self.faults = rng.integers(0, 4, count)
        self.block = np.ones((6, 6), np.float32)

    def __len__(self):
        return len(self.faults)

    def __getitem__(self, index):
        return {"image": np.kron(self.pictures[index], self.block), "fault": self.faults[index]}


def collate(samples):
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}


class ThermalModule:
    def train_dataloader(self):
        return DataLoader(ThermalImages(), batch_size=32, shuffle=True, collate_fn=collate)


def make_loader():
    return ThermalModule().train_dataloader()
