"""`dtype=float` makes float64 of float32 profiles, and the collate casts them back.

Source: ray#50128
The report is about a needless way through NumPy. Here the way is through float64.
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate


class ExpressionProfiles(Dataset):
    def __init__(self, cells, genes, seed=27):
        self.profiles = np.random.default_rng(seed).random((cells, genes), dtype=np.float32)
        self.cell_types = np.arange(cells) % 7

    def __len__(self):
        return len(self.profiles)

    def __getitem__(self, cell):
        profile = np.asarray(self.profiles[cell], dtype=float)  # fault: float64-round-trip
        return {"profile": self.with_floor(profile), "cell_type": self.cell_types[cell]}

    @staticmethod
    def with_floor(profile, least=0.25):
        return np.maximum(profile, least)


def to_model_dtype(samples):
    batch = default_collate(samples)
    batch["profile"] = batch["profile"].to(torch.float32)
    return batch


def make_loader():
    profiles = ExpressionProfiles(cells=2560, genes=12_000)
    return DataLoader(profiles, batch_size=16, shuffle=True, collate_fn=to_model_dtype)
