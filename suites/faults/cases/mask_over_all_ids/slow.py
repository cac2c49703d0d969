"""The rows of a session are found by comparing the ids of all rows, for every sample.

Source: CAPABILITIES row E4
"""

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset


class SessionDataset(Dataset):
    def __init__(self, sessions=640, events=120_000):
        g = torch.Generator().manual_seed(71)
        self.session_ids = torch.randint(0, sessions, (events,), generator=g)
        self.features = torch.randn(events, 5, generator=g)
        self.sessions = sessions

    def __len__(self):
        return self.sessions

    def __getitem__(self, session):
        rows = (self.session_ids == session).nonzero().squeeze(1)  # fault: scan-per-item
        return self.features[rows]


def make_loader():
    return DataLoader(
        SessionDataset(), batch_size=16, shuffle=True, collate_fn=lambda b: pad_sequence(b, batch_first=True)
    )
