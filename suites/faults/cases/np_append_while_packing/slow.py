"""Documents are packed into one token array with np.append in a loop.

Source: datasets#8407
The report is about a buffer filled row by row. Here the buffer grows document by document.
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


def fake_corpus(documents, seed=50):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 32000, rng.integers(60, 240)) for _ in range(documents)]


class PackedTokens(IterableDataset):
    """Packs one shard of documents after another and cuts it into blocks."""

    def __init__(self, corpus, block=256, shard=1200):
        self.shards = [corpus[start : start + shard] for start in range(0, len(corpus), shard)]
        self.block = block

    def pack(self, documents):
        tokens = np.empty(0, dtype=np.int64)
        for document in documents:
            tokens = np.append(tokens, document)  # fault: growing-concatenation
        return tokens

    def __iter__(self):
        for documents in self.shards:
            tokens = self.pack(documents)
            for start in range(0, len(tokens) - self.block, self.block):
                yield torch.from_numpy(tokens[start : start + self.block])


def make_loader():
    return DataLoader(PackedTokens(fake_corpus(documents=6000)), batch_size=16)
