"""Each of two workers is told to use thirty-two threads, which suited another machine.

Source: transferable-samplers/transferable-samplers#12
"""

import torch
from torch.utils.data import DataLoader, Dataset


class Tiles(Dataset):
    """Four-band tiles with a correction for haze and for the sun's height."""

    def __init__(self, count, size=256):
        self.base = torch.rand(4, 4, size, size, generator=torch.Generator().manual_seed(9))
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        tile = self.base[index % 4] * (1 + index / self.count)
        haze = (tile[3] * 0.3).clamp_(max=0.25)
        tile.sub_(haze).mul_(1.2).clamp_(0, 1)
        return tile.sub_(0.5).mul_(2).abs_().neg_().add_(1)[:, ::8, ::8].clone()


def set_threads(worker_id):
    torch.set_num_threads(32)  # fault: too-many-threads


def make_loader():
    tiles = Tiles(320)
    return DataLoader(tiles, batch_size=16, num_workers=2, persistent_workers=True, worker_init_fn=set_threads)
