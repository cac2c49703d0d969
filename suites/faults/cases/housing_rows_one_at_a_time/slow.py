"""A dataset over tensors in memory gives the DataLoader one row at a time.

Source: pytorch/pytorch#181501
"""

import torch
from torch.utils.data import DataLoader, Dataset


class HousingRows(Dataset):
    def __init__(self, features, prices):
        self.features = features
        self.prices = prices

    def __len__(self):
        return len(self.prices)

    def __getitem__(self, row):
        return self.features[row], self.prices[row]  # fault: sample-by-sample


def make_loader():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(65_536, 24, generator=generator)
    prices = features[:, :3].sum(dim=1) + torch.rand(65_536, generator=generator)
    return DataLoader(HousingRows(features, prices), batch_size=64, shuffle=True)
