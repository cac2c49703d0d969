"""The vocabulary is built once, when the dataset is made."""

import random

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset


def make_texts(count=400, seed=13):
    rng = random.Random(seed)
    words = [f"word{n}" for n in range(500)]
    return [" ".join(rng.choices(words, k=rng.randint(8, 24))) for _ in range(count)]


class TextDataset(Dataset):
    def __init__(self, texts):
        self.texts = texts
        self.vocab = {word: n for n, word in enumerate(sorted(set(" ".join(texts).split())), 1)}

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, idx):
        words = self.texts[idx].split()
        return torch.from_numpy(np.fromiter((self.vocab[word] for word in words), np.int64, len(words)))


def pad(batch):
    return pad_sequence(batch, batch_first=True, padding_value=0)


def make_loader():
    return DataLoader(TextDataset(make_texts()), batch_size=25, shuffle=True, collate_fn=pad)
