"""The state is one number, and ``state_dict`` makes the record of it only when it is asked."""

import numpy as np
import torch


class LogStream:
    """Batches of log vectors; ``state_dict`` says which records were delivered."""

    def __init__(self, vectors, batch_size):
        self.vectors = vectors
        self.batch_size = batch_size
        self.position = 0

    def state_dict(self):
        delivered = [{"record": record, "shard": record // 512} for record in range(self.position)]
        return {"position": self.position, "delivered": delivered}

    def __iter__(self):
        for start in range(0, len(self.vectors), self.batch_size):
            self.position = start + self.batch_size
            yield torch.from_numpy(self.vectors[start : self.position])


def make_loader():
    vectors = np.random.default_rng(11).standard_normal((2048, 96), dtype=np.float32)
    return LogStream(vectors, batch_size=32)
