"""One batch in nine takes ten times as long, and the workers may be only one batch ahead.

Source: CAPABILITIES row D1
"""

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler


class Reports(Dataset):
    """Reports of 1,000 words; those of every ninth batch have 10,000."""

    def __init__(self, batches, batch_size):
        self.words = np.random.default_rng(15).integers(0, 30_000, 10_000)
        self.lengths = np.where(np.arange(batches * batch_size) // batch_size % 9 == 4, 10_000, 1_000)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        words = self.words[: self.lengths[index]]
        pairs = np.sort(words * 31 + index % 7)
        for shift in range(1, 16):
            pairs = np.sort(pairs ^ (pairs >> shift))
        return torch.from_numpy(np.bincount(pairs % 512, minlength=512))


def make_loader(batch_size=8):
    reports = Reports(72, batch_size)
    batches = BatchSampler(SequentialSampler(reports), batch_size, drop_last=False)
    workers = dict(num_workers=2, persistent_workers=True)
    return DataLoader(reports, batch_sampler=batches, prefetch_factor=1, **workers)  # fault: shallow-prefetch
