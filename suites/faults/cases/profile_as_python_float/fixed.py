"""The profiles stay float32 from the dataset to the batch."""

import numpy as np
from torch.utils.data import DataLoader, Dataset


class ExpressionProfiles(Dataset):
    def __init__(self, cells, genes, seed=27):
        self.profiles = np.random.default_rng(seed).random((cells, genes), dtype=np.float32)
        self.cell_types = np.arange(cells) % 7

    def __len__(self):
        return len(self.profiles)

    def __getitem__(self, cell):
        profile = self.profiles[cell]
        return {"profile": self.with_floor(profile), "cell_type": self.cell_types[cell]}

    @staticmethod
    def with_floor(profile, least=0.25):
        return np.maximum(profile, least)


def make_loader():
    profiles = ExpressionProfiles(cells=2560, genes=12_000)
    return DataLoader(profiles, batch_size=16, shuffle=True)
