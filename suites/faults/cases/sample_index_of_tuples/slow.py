"""The index of a web-scale set is a list of tuples, and workers look at all of it.

Source: pytorch/pytorch#13246
"""

import torch
from torch.utils.data import DataLoader, Dataset

SHARDS, SAMPLES = 64, 160_000


def index_lines():
    return [f"part-{n % SHARDS:03d}/{n:08d}.jpg {n * 37} {n % 91}" for n in range(SAMPLES)]


class WebIndex(Dataset):
    def __init__(self, lines):
        self.samples = [tuple(line.split()) for line in lines]  # fault: objects-in-workers

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        name, offset, label = self.samples[index]
        return torch.tensor((len(name), int(offset), int(label)))


def make_loader():
    return DataLoader(WebIndex(index_lines()), batch_size=2048, shuffle=True, num_workers=2, persistent_workers=True)
