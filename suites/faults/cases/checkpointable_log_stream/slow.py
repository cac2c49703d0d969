"""A checkpointable loader copies its whole growing state at every batch.

Source: meta-pytorch/data#1317
"""

import copy

import numpy as np
import torch


class LogStream:
    """Batches of log vectors; ``state_dict`` says which records were delivered."""

    def __init__(self, vectors, batch_size):
        self.vectors = vectors
        self.batch_size = batch_size
        self.snapshot = None

    def state_dict(self):
        return self.snapshot

    def __iter__(self):
        state = {"position": 0, "delivered": []}
        for start in range(0, len(self.vectors), self.batch_size):
            stop = start + self.batch_size
            batch = torch.from_numpy(self.vectors[start:stop])
            state["delivered"] += [{"record": record, "shard": record // 512} for record in range(start, stop)]
            state["position"] = stop
            self.snapshot = copy.deepcopy(state)  # fault: snapshot-per-batch
            yield batch


def make_loader():
    vectors = np.random.default_rng(11).standard_normal((2048, 96), dtype=np.float32)
    return LogStream(vectors, batch_size=32)
