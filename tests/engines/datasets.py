"""Datasets as users write them, for engines in processes of their own."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

SAMPLES = 100


class Rows(Dataset):
    def __init__(self):
        self.rows = torch.arange(SAMPLES * 3.0).reshape(SAMPLES, 3)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"x": self.rows[index], "name": f"row {index}"}, index


class Noisy(Rows):
    def __getitem__(self, index):
        return self.rows[index] + torch.rand(3), index


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(SAMPLES))


def make_rows():
    return Rows()


def make_stream():
    return Stream()


def make_loader():
    return DataLoader(Rows())


def make_generator():
    return (i for i in range(3))


def make_mapping():
    return {"x": [1, 2]}


def make_nothing():
    return []


def make_error():
    raise RuntimeError("no such folder")


a_dataset = Rows()
