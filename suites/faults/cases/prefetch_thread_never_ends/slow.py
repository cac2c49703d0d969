"""Each epoch starts a prefetch thread that goes on with the next pass and then waits for ever in ``put``.

Source: Lightning-AI/litData#641
"""

import queue
import threading

import numpy as np
import torch


class MelPrefetcher:
    """Log-mel style features of windows, computed one batch ahead."""

    def __init__(self, audio, window=1024, batch_size=16):
        self.windows = audio.reshape(-1, window)
        self.batch_size = batch_size
        self.batches = len(self.windows) // batch_size

    def features(self, number):
        rows = self.windows[number * self.batch_size : (number + 1) * self.batch_size]
        return torch.from_numpy(np.log1p(np.abs(np.fft.rfft(rows, n=16384, axis=1))))

    def endless(self, ready):
        number = 0
        while True:
            ready.put(self.features(number % self.batches))
            number += 1

    def __len__(self):
        return self.batches

    def __iter__(self):
        ready = queue.Queue(maxsize=1)
        threading.Thread(target=self.endless, args=(ready,), daemon=True).start()  # fault: thread-leak
        for _ in range(self.batches):
            yield ready.get()


def make_loader():
    audio = np.random.default_rng(31).standard_normal(512 * 1024)
    return MelPrefetcher(audio)
