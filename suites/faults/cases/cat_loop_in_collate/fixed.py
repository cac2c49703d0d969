"""The collate stacks all clips in one call."""

import torch
from torch.utils.data import DataLoader, Dataset

FRAMES, HEIGHT, WIDTH = 16, 32, 32


class MovingDots(Dataset):
    """Clips of dots that move at a speed of their own, drawn when asked for."""

    def __init__(self, clips=768):
        self.speeds = torch.linspace(0.5, 3.0, clips).unsqueeze(1)
        self.frames = torch.arange(FRAMES)

    def __len__(self):
        return self.speeds.shape[0]

    def __getitem__(self, i):
        clip = torch.zeros(FRAMES, HEIGHT, WIDTH)
        columns = (self.speeds[i] * self.frames).long() % WIDTH
        clip[self.frames, HEIGHT // 2, columns] = 1.0
        return clip


def collate(clips):
    return torch.stack(clips)


def make_loader():
    return DataLoader(MovingDots(), batch_size=48, shuffle=True, collate_fn=collate)
