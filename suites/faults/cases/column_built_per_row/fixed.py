"""The column is put together once."""

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

WIDTH = 128


def synthetic_table(chunks=20, rows_per_chunk=128):
    rng = np.random.default_rng(37)
    batches = []
    for _ in range(chunks):
        values = pa.array(rng.random(rows_per_chunk * WIDTH, dtype=np.float32))
        batches.append(pa.table({"spectrum": pa.FixedSizeListArray.from_arrays(values, WIDTH)}))
    return pa.concat_tables(batches)


class TableDataset:
    """A map-style view of a table, one log-scaled spectrum per row."""

    def __init__(self, table):
        self.column = table["spectrum"].combine_chunks()

    def __len__(self):
        return len(self.column)

    def __getitem__(self, i):
        row = self.column.values.to_numpy()[i * WIDTH : (i + 1) * WIDTH]
        return torch.from_numpy(np.log1p(row))


def make_loader():
    return DataLoader(TableDataset(synthetic_table()), batch_size=64, shuffle=True)
