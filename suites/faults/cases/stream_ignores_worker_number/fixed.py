"""Each worker reads its own share of the captures."""

import gzip

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class PacketStream(IterableDataset):
    """Network packets from compressed captures: a payload histogram and the length of each."""

    def __init__(self, captures, packet_bytes=1500):
        self.captures = captures
        self.packet_bytes = packet_bytes

    def packets(self, capture):
        payload = np.frombuffer(gzip.decompress(capture), np.uint8)
        yield from payload.reshape(-1, self.packet_bytes)

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for capture in self.captures[first::step]:
            for packet in self.packets(capture):
                counts = np.bincount(packet, minlength=256)
                yield torch.from_numpy(counts), int(np.count_nonzero(packet))


def make_captures(count=64, packets=48):
    rng = np.random.default_rng(13)
    for _ in range(count):
        yield gzip.compress(rng.integers(0, 64, packets * 1500, dtype=np.uint8).tobytes(), 1)


def make_loader():
    stream = PacketStream(list(make_captures()))
    return DataLoader(stream, batch_size=48, num_workers=2, persistent_workers=True)
