"""A thumbnail that cannot be decoded is tried again after a pause, as if it were a network error.

Source: CAPABILITIES row E2
"""

import io
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset


def encoded_thumbnails(count):
    rng = np.random.default_rng(17)
    for index in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(file, "PNG")
        yield file.getvalue()[:200] if index % 20 == 7 else file.getvalue()


class Thumbnails(Dataset):
    def __init__(self, encoded, retries=3):
        self.encoded, self.retries = list(encoded), retries

    def __len__(self):
        return len(self.encoded)

    def __getitem__(self, index):
        for attempt in range(self.retries):
            try:
                return np.array(Image.open(io.BytesIO(self.encoded[index])))
            except OSError:
                time.sleep(0.01 * 2**attempt)  # fault: sleeping
        return np.zeros((48, 48, 3), np.uint8)


def as_images(samples):
    return torch.from_numpy(np.stack(samples))


def make_loader():
    return DataLoader(Thumbnails(encoded_thumbnails(320)), batch_size=16, shuffle=True, collate_fn=as_images)
