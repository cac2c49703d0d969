"""A transform keeps its flat field as a nested list and converts it at each call.

Source: MONAI#8846
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class FlatField:
    def __init__(self, field):
        self.field = field

    def __call__(self, image):
        field = torch.tensor(self.field)  # fault: repeated-work
        return image / field


class Slides(Dataset):
    def __init__(self, images, *transforms):
        self.images, self.transform = images, Compose(transforms)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i])


def make_loader():
    config = {"flat_field": (1 + np.random.default_rng(19).random((40, 40))).tolist()}
    images = np.random.default_rng(20).integers(0, 4096, (768, 40, 40), dtype=np.int16)
    slides = Slides(images, torch.from_numpy, FlatField(config["flat_field"]), torch.Tensor.log1p_)
    return DataLoader(slides, batch_size=32, shuffle=True)
