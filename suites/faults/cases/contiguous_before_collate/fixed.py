"""The transposed tile stays a view until the collate stacks it."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class TileDataset(Dataset):
    """Square tiles of (height, width, channel) slides, given out as (channel, height, width)."""

    def __init__(self, slides, tile, hop):
        self.slides, self.tile = slides, tile
        self.corners = [
            (number, y, x)
            for number, slide in enumerate(slides)
            for y in range(0, slide.shape[0] - tile, hop)
            for x in range(0, slide.shape[1] - tile, hop)
        ]

    def __len__(self):
        return len(self.corners)

    def __getitem__(self, i):
        number, y, x = self.corners[i]
        tile = self.slides[number, y : y + self.tile, x : x + self.tile]
        return tile.transpose(2, 0, 1)


def collate(tiles):
    return torch.from_numpy(np.stack(tiles))


def make_loader():
    slides = np.random.default_rng(6).integers(0, 256, (4, 512, 512, 3), dtype=np.uint8)
    return DataLoader(TileDataset(slides, tile=160, hop=12), batch_size=8, shuffle=True, collate_fn=collate)
