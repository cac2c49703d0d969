"""The two sets are joined into one ``Spectra`` dataset, which fetches a whole batch by its ``__getitems__``."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Spectra(Dataset):
    def __init__(self, spectra, classes):
        self.spectra, self.classes = spectra, classes

    @classmethod
    def made(cls, count, seed):
        rng = np.random.default_rng(seed)
        return cls(rng.random((count, 64), dtype=np.float32), rng.integers(0, 5, count))

    @classmethod
    def joined(cls, parts):
        return cls(np.concatenate([part.spectra for part in parts]), np.concatenate([part.classes for part in parts]))

    def __len__(self):
        return len(self.classes)

    def __getitems__(self, indices):
        return [torch.from_numpy(self.spectra[indices]), torch.from_numpy(self.classes[indices])]


def collate(batch):
    return batch


class SpectraModule:
    batch_size = 128

    def setup(self):
        self.train = Spectra.joined([Spectra.made(36_864, seed=1), Spectra.made(24_576, seed=2)])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, collate_fn=collate)


def make_loader():
    module = SpectraModule()
    module.setup()
    return module.train_dataloader()
