"""The zip archive is opened, and its directory parsed, for every image (the report: one archive for all workers).

Source: webdataset#339
"""

import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

TARGET = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "zip_reopened_per_image" / "images.zip"


def pack(pixels):
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    part = TARGET.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(part, "w") as archive:
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(png := io.BytesIO(), "png")
            archive.writestr(f"train/{number:05d}.png", png.getvalue())
    part.replace(TARGET)


class ZipImages(Dataset):
    def __init__(self, path, count):
        self.path, self.count = path, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        with zipfile.ZipFile(self.path) as archive:  # fault: file-reopened
            return np.asarray(Image.open(io.BytesIO(archive.read(f"train/{i:05d}.png"))))


def make_loader():
    if not TARGET.exists():
        pack(np.random.default_rng(2).integers(0, 256, (320, 28, 28), dtype=np.uint8))
    return DataLoader(ZipImages(TARGET, 320), 32, collate_fn=lambda images: torch.from_numpy(np.stack(images)))
