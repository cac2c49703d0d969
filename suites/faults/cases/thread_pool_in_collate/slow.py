"""A collate makes a new multiprocessing.pool.ThreadPool for every batch, to decode its PNGs.

Source: CAPABILITIES row A1
"""

import io
from multiprocessing.pool import ThreadPool

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader


def encode(pixels):
    Image.fromarray(pixels).save(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


class DecodeAndStack:
    def __init__(self, num_threads):
        self.num_threads = num_threads

    @staticmethod
    def decode(png):
        return np.asarray(Image.open(io.BytesIO(png)))

    def __call__(self, pngs):
        with ThreadPool(self.num_threads) as pool:  # fault: executor-per-item
            images = pool.map(self.decode, pngs)
        return torch.from_numpy(np.stack(images))


class PngDataModule:
    def __init__(self):
        images = np.random.default_rng(17).integers(0, 256, (640, 24, 24, 3), dtype=np.uint8)
        self.train = [encode(image) for image in images]

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=8, shuffle=True, collate_fn=DecodeAndStack(num_threads=4))


def make_loader():
    return PngDataModule().train_dataloader()
