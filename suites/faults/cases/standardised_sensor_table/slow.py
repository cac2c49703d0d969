"""A transform wrapper has no ``__getitems__``, so the batched query of the table under it is never used.

Source: pytorch/pytorch#172638
"""

import duckdb
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class SensorTable(Dataset):
    def __init__(self, rows):
        self.rows = rows
        self.db = duckdb.connect()
        values = "range AS id, sin(range)::FLOAT AS temperature, cos(range)::FLOAT AS pressure"
        self.db.execute(f"CREATE TABLE readings AS SELECT {values} FROM range({rows})")

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices):
        query = (
            "SELECT temperature, pressure FROM readings WHERE id IN (SELECT unnest($1)) ORDER BY list_position($1, id)"
        )
        columns = self.db.execute(query, [indices]).fetchnumpy()
        return np.stack([columns["temperature"], columns["pressure"]], axis=1)


class Standardised(Dataset):
    def __init__(self, dataset, mean=0.5, std=0.29):
        self.dataset, self.mean, self.std = dataset, mean, std

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return torch.from_numpy((self.dataset[index] - self.mean) / self.std)  # fault: hidden-getitems


def make_loader():
    return DataLoader(Standardised(SensorTable(768)), batch_size=64, shuffle=True)
