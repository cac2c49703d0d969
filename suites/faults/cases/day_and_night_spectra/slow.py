"""``ConcatDataset`` joins two datasets that can fetch a whole batch, and fetches their items one by one.

Source: pytorch/pytorch#106704
"""

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, default_collate


class Spectra(Dataset):
    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.spectra = rng.random((count, 64), dtype=np.float32)
        self.classes = rng.integers(0, 5, count)

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, index):
        return torch.from_numpy(self.spectra[index]), self.classes[index]

    def __getitems__(self, indices):
        return [torch.from_numpy(self.spectra[indices]), torch.from_numpy(self.classes[indices])]


def collate(batch):
    return batch if torch.is_tensor(batch[0]) else default_collate(batch)


class SpectraModule:
    batch_size = 128

    def setup(self):
        self.train = ConcatDataset([Spectra(36_864, seed=1), Spectra(24_576, seed=2)])  # fault: hidden-getitems

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, collate_fn=collate)


def make_loader():
    module = SpectraModule()
    module.setup()
    return module.train_dataloader()
