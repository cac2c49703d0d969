"""The rows are grouped by session once, when the dataset is made."""

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset


class SessionDataset(Dataset):
    def __init__(self, sessions=640, events=120_000):
        g = torch.Generator().manual_seed(71)
        session_ids = torch.randint(0, sessions, (events,), generator=g)
        self.features = torch.randn(events, 5, generator=g)
        counts = torch.bincount(session_ids, minlength=sessions).tolist()
        self.rows = session_ids.argsort(stable=True).split(counts)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, session):
        return self.features[self.rows[session]]


def make_loader():
    return DataLoader(
        SessionDataset(), batch_size=16, shuffle=True, collate_fn=lambda b: pad_sequence(b, batch_first=True)
    )
