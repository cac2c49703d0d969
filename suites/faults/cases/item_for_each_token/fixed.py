"""The length is counted by one call on the whole sequence."""

import torch
from torch.utils.data import DataLoader, Dataset

PAD = 0


class PaddedSequences(Dataset):
    def __init__(self, count=1280, width=160):
        generator = torch.Generator().manual_seed(55)
        self.tokens = torch.randint(1, 9000, (count, width), generator=generator, dtype=torch.int32)
        lengths = torch.randint(width // 4, width, (count, 1), generator=generator)
        self.positions = torch.arange(width)
        self.tokens[self.positions >= lengths] = PAD

    def __len__(self):
        return self.tokens.shape[0]

    def real_length(self, sequence):
        return (sequence != PAD).sum()

    def __getitem__(self, i):
        sequence = self.tokens[i]
        return {"input_ids": sequence, "attention_mask": self.positions < self.real_length(sequence)}


def make_loader():
    return DataLoader(PaddedSequences(), batch_size=32, shuffle=True)
