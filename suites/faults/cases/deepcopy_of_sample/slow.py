"""The sample dict is deep-copied before a pipeline that modifies none of its tensors.

Source: CAPABILITIES row A4
"""

import copy

import torch
from torch.utils.data import DataLoader, Dataset


class ScaleImage:
    def __call__(self, results):
        results["image"] = results["image"] / 255
        return results


class ToCenterBoxes:
    def __call__(self, results):
        low, high = results["boxes"].chunk(2, dim=1)
        results["boxes"] = torch.cat([(low + high) / 2, high - low], dim=1)
        return results


class DetectionDataset(Dataset):
    def __init__(self, samples, pipeline):
        self.samples, self.pipeline = samples, pipeline

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, idx):
        results = copy.deepcopy(self.samples[idx])  # fault: needless-copy
        for step in self.pipeline:
            results = step(results)
        return results


def make_loader():
    g = torch.Generator().manual_seed(21)
    images = (torch.randint(0, 256, (3, 32, 32), generator=g, dtype=torch.uint8) for _ in range(2048))
    samples = [{"image": image, "boxes": torch.rand(8, 4, generator=g)} for image in images]
    return DataLoader(DetectionDataset(samples, [ScaleImage(), ToCenterBoxes()]), batch_size=16, shuffle=True)
