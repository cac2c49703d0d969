"""A decoding thread waits half a second for more work at the epoch's end before it looks whether it should stop.

Source: mosaicml/streaming#741
"""

import lzma
import queue
import threading

import numpy as np
import torch


class ShardLoader:
    def __init__(self, shards):
        self.shards = shards

    def __iter__(self):
        todo, done, stop = queue.Queue(), queue.Queue(), threading.Event()
        decoder = threading.Thread(target=self.decode, args=(todo, done, stop), daemon=True)
        decoder.start()
        try:
            for shard in self.shards:
                todo.put(shard)
            for _ in self.shards:
                yield torch.from_numpy(done.get())
        finally:
            stop.set()
            decoder.join()  # fault: slow-exit

    def decode(self, todo, done, stop):
        while not stop.is_set():
            try:
                shard = todo.get(timeout=0.5)
            except queue.Empty:
                continue
            done.put(np.sort(np.frombuffer(lzma.decompress(shard), np.float32).reshape(32, -1)))


def make_loader():
    rows = np.random.default_rng(6).integers(0, 16, (16, 32, 1024)).astype(np.float32)
    return ShardLoader([lzma.compress(shard.tobytes(), preset=0) for shard in rows])
