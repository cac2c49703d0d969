"""The whole compressed atlas is unpacked each time one patch is cut out of it.

Source: zarr-python#2529
"""

import zlib

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

EDGE, PATCH = 72, 16


class AtlasPatches(Dataset):
    def __init__(self, patches=320, seed=41):
        rng = np.random.default_rng(seed)
        atlas = rng.integers(0, 12, (EDGE, EDGE, EDGE), dtype=np.uint8)
        self.blob = zlib.compress(atlas.tobytes(), level=1)
        self.corners = rng.integers(0, EDGE - PATCH, (patches, 3))

    def __len__(self):
        return len(self.corners)

    def volume(self):
        raw = zlib.decompress(self.blob)  # fault: repeated-work
        return np.frombuffer(raw, dtype=np.uint8).reshape(EDGE, EDGE, EDGE)

    def __getitem__(self, i):
        z, y, x = self.corners[i]
        return self.volume()[z : z + PATCH, y : y + PATCH, x : x + PATCH]


def stack_patches(patches):
    return torch.from_numpy(np.stack(patches))


def make_loader():
    return DataLoader(AtlasPatches(), batch_size=16, shuffle=True, collate_fn=stack_patches)
