"""The array is written with one sample a chunk, so a sample reads nothing but itself."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, Dataset

FOLDER = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "zarr_chunks_read_per_row"


def cell_images(samples_per_chunk):
    path = FOLDER / f"cells_{samples_per_chunk}.zarr"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = FOLDER / f"partial_{os.getpid()}.zarr"
        images = np.random.default_rng(29).poisson(5, (512, 64, 64)).astype(np.uint16)
        zarr.create_array(partial, data=images, chunks=(samples_per_chunk, 64, 64))
        shutil.move(partial, path)
    return path


class CellImages(Dataset):
    def __init__(self, path):
        self.images = zarr.open_array(path, mode="r")

    def __len__(self):
        return self.images.shape[0]

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index].astype(np.float32))


def make_loader():
    return DataLoader(CellImages(cell_images(1)), batch_size=32, shuffle=True)
