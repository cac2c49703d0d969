"""The transform clamps the whole series in one call."""

import torch
from torch.utils.data import DataLoader, Dataset


def clamp(low, high):
    def apply(series):
        return series.clamp(low, high)

    return apply


def difference(series):
    return series.diff(prepend=series[:1])


class PriceHistory(Dataset):
    def __init__(self, transforms):
        generator = torch.Generator().manual_seed(90)
        self.prices = torch.randn(9000, generator=generator).cumsum(0)
        self.transforms = transforms

    def __len__(self):
        return (len(self.prices) - 96) // 12

    def __getitem__(self, index):
        series = self.prices[index * 12 :][:96]
        for transform in self.transforms:
            series = transform(series)
        return series


def make_loader():
    return DataLoader(PriceHistory([difference, clamp(-1.0, 1.0)]), batch_size=25, shuffle=True)
