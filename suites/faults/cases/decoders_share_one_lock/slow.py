"""Two decoding threads hold the archive's lock while they decompress, so only one of them works at a time.

Source: CAPABILITIES row A1
"""

import bz2
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


class Archive:
    """Compressed micrographs, one after the other in one file object."""

    def __init__(self, micrographs):
        self.file, self.places, self.lock = io.BytesIO(), [], threading.Lock()
        for micrograph in micrographs:
            start = self.file.tell()
            self.places.append((start, self.file.write(bz2.compress(micrograph.tobytes(), 1))))

    def read(self, index):
        start, size = self.places[index]
        with self.lock:  # fault: lock-contention
            self.file.seek(start)
            pixels = bz2.decompress(self.file.read(size))
            return np.frombuffer(pixels, np.uint16).reshape(128, 128)


class ThreadedLoader:
    def __init__(self, archive, batch_size=16, threads=2):
        self.archive, self.batch_size = archive, batch_size
        self.pool = ThreadPoolExecutor(threads)

    def __iter__(self):
        order = torch.randperm(len(self.archive.places)).tolist()
        for start in range(0, len(order), self.batch_size):
            images = self.pool.map(self.archive.read, order[start : start + self.batch_size])
            yield torch.from_numpy(np.stack(list(images)))


def make_loader():
    return ThreadedLoader(Archive(np.random.default_rng(2).integers(0, 40, (256, 128, 128), dtype=np.uint16)))
