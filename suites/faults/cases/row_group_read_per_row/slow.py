"""Every row reads and decodes its whole row group again.

Source: cell-load#62
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

CELLS = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "row_group_read_per_row" / "cells.parquet"
GROUP = 128


def write_cells(rows=512, genes=400):
    CELLS.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng(37).poisson(2, rows * genes).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(counts), genes)
    partial = CELLS.with_suffix(f".{os.getpid()}")
    pq.write_table(pa.table({"counts": column}), partial, row_group_size=GROUP)
    partial.replace(CELLS)


class Expression(Dataset):
    def __init__(self, path):
        self.file = pq.ParquetFile(path)

    def __len__(self):
        return self.file.metadata.num_rows

    def __getitem__(self, row):
        group = self.file.read_row_group(row // GROUP, columns=["counts"])  # fault: read-amplification
        cell = group["counts"].chunk(0).slice(row % GROUP, 1).flatten()
        return torch.from_numpy(np.log1p(cell.to_numpy()))


def make_loader():
    if not CELLS.exists():
        write_cells()
    return DataLoader(Expression(CELLS), batch_size=32)
