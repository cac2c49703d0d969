"""The clip is a view of the recording, made by torch.from_numpy."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class MicroscopyClips(Dataset):
    """Overlapping clips of one long recording; a clip is already a batch of planes."""

    def __init__(self, recording, planes=48, stride=1):
        self.recording = recording
        self.planes, self.stride = planes, stride

    def __len__(self):
        return (len(self.recording) - self.planes) // self.stride

    def __getitem__(self, index):
        start = index * self.stride
        clip = self.recording[start : start + self.planes]
        return torch.from_numpy(clip)


def make_loader():
    recording = np.random.default_rng(4).random((1100, 1, 96, 96), dtype=np.float32)
    return DataLoader(MicroscopyClips(recording), batch_size=None, shuffle=True)
