"""Every batch of history windows is cloned, though nothing modifies it.

Source: CAPABILITIES row A4
"""

import torch


class HistoryLoader:
    """Gives batches of (samples, channels, past steps) for a forecast, in order of time."""

    def __init__(self, series, past, batch_size):
        self.windows = series.unfold(0, past, 1)
        self.batch_size = batch_size

    def __len__(self):
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.windows), self.batch_size):
            history = self.windows[start : start + self.batch_size]
            yield history.clone()  # fault: needless-copy


def make_series(steps=20_000, channels=32):
    generator = torch.Generator().manual_seed(12)
    return torch.randn(steps, channels, generator=generator).cumsum(dim=0)


def make_loader():
    return HistoryLoader(make_series(), past=336, batch_size=512)
