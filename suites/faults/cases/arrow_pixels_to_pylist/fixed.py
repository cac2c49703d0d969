"""The pixels are read as views of the column's flat buffer."""

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

HEIGHT, WIDTH = 64, 72


def build_table(rows=768):
    rng = np.random.default_rng(101)
    pixels = pa.array(rng.integers(0, 65536, rows * HEIGHT * WIDTH, dtype=np.uint16))
    offsets = np.arange(rows + 1, dtype=np.int32) * HEIGHT * WIDTH
    wells = [f"A{row:03d}" for row in range(rows)]
    return pa.table({"well": wells, "pixels": pa.ListArray.from_arrays(offsets, pixels)})


class ArrowImages(Dataset):
    def __init__(self, table):
        flat = table["pixels"].combine_chunks().flatten().to_numpy()
        self.images = flat.reshape(table.num_rows, 1, HEIGHT, WIDTH)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i].astype(np.float32)
        return torch.from_numpy(image).div_(65535.0)


def make_loader():
    return DataLoader(ArrowImages(build_table()), batch_size=16, shuffle=True)
