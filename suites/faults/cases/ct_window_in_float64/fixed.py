"""The slice becomes float32 first, so the arithmetic stays float32."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class CtCrops(Dataset):
    def __init__(self, slices, crop, per_slice):
        self.slices, self.crop, self.per_slice = slices, crop, per_slice
        self.rng = random.Random(2)

    def __len__(self):
        return len(self.slices) * self.per_slice

    def random_crop(self, image):
        top, left = (self.rng.randrange(side - self.crop) for side in image.shape)
        return image[top : top + self.crop, left : left + self.crop]

    def window(self, image, center=40.0, width=400.0):
        scaled = np.clip((image.astype(np.float32) - center) / width, -0.5, 0.5)
        return torch.from_numpy(scaled)

    def __getitem__(self, i):
        return self.window(self.random_crop(self.slices[i // self.per_slice]))


def make_loader():
    slices = np.random.default_rng(14).integers(-1000, 1000, (64, 256, 256), dtype=np.int16)
    return DataLoader(CtCrops(slices, crop=120, per_slice=56), batch_size=8, shuffle=True)
