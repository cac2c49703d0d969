"""Row groups are dealt out to the workers, instead of files."""

import os
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

PATH = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "one_parquet_file_two_workers" / "train.parquet"


def write_tokens():
    PATH.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(23)
    packed = [zlib.compress(rng.integers(0, 20, 20_000, dtype=np.int32).tobytes(), 1) for _ in range(512)]
    partial = PATH.with_suffix(f".{os.getpid()}")
    pq.write_table(pa.table({"tokens": packed}), partial, row_group_size=32, compression=None)
    partial.replace(PATH)


class TokenHistograms(IterableDataset):
    def __init__(self, files):
        self.files = files

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for file in map(pq.ParquetFile, self.files):
            for batch in file.iter_batches(batch_size=32, row_groups=range(first, file.num_row_groups, step)):
                for packed in batch["tokens"].to_numpy(zero_copy_only=False):
                    yield torch.from_numpy(np.bincount(np.frombuffer(zlib.decompress(packed), np.int32)))


def make_loader():
    if not PATH.exists():
        write_tokens()
    return DataLoader(TokenHistograms([PATH]), batch_size=32, num_workers=2, persistent_workers=True)
