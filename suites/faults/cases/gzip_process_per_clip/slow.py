"""Every audio clip is unpacked by a new gzip process (the row is about a new pool for each item).

Source: CAPABILITIES row A1
"""

import gzip
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

DATA = Path(os.environ.get("FAULTS_DATA", tempfile.gettempdir())) / "gzip_process_per_clip"


def prepare(count=144, samples=4000):
    DATA.mkdir(parents=True, exist_ok=True)
    waves = np.random.default_rng(5).integers(-300, 300, (count, samples), dtype=np.int16)
    paths = [DATA / f"clip_{number:03d}.pcm.gz" for number in range(count)]
    for path, wave in zip(paths, waves, strict=True):
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(gzip.compress(wave.tobytes(), mtime=0))
            part.replace(path)
    return paths


class ClipDataset(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        pcm = subprocess.check_output(["gzip", "-dc", self.paths[i]])  # fault: process-per-item
        return torch.from_numpy(np.frombuffer(pcm, dtype=np.int16).astype(np.float32))


def make_loader():
    return DataLoader(ClipDataset(prepare()), batch_size=8, shuffle=True)
