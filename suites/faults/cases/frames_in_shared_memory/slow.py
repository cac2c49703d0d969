"""A reader puts each batch of frames into shared memory for a display, and never removes it.

Source: activeloopai/deeplake#1040
"""

from multiprocessing.shared_memory import SharedMemory

import numpy as np
import torch


class FrameReader:
    def __init__(self, frames, batch_size):
        self.frames, self.batch_size = frames, batch_size

    def __len__(self):
        return len(self.frames) // self.batch_size

    def publish(self, batch):
        area = SharedMemory(create=True, size=batch.nbytes)  # fault: shared-memory-leak
        np.ndarray(batch.shape, batch.dtype, area.buf)[:] = batch
        area.close()

    def __iter__(self):
        for start in range(0, len(self.frames), self.batch_size):
            batch = self.frames[start : start + self.batch_size]
            self.publish(batch)
            yield torch.from_numpy(batch)


def make_loader():
    return FrameReader(np.random.default_rng(10).random((256, 3, 48, 48), dtype=np.float32), batch_size=32)
