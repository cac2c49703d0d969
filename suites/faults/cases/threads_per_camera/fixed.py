"""The dataset decodes the cameras through one executor that it keeps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset

CAMERAS, FRAMES, SHAPE = 4, 320, (32, 48, 3)


def record():
    pixels = np.random.default_rng(3).integers(0, 256, (FRAMES, CAMERAS, *SHAPE), dtype=np.uint8)
    return [[simplejpeg.encode_jpeg(view) for view in views] for views in pixels]


class RigDataset(Dataset):
    def __init__(self, recording):
        self.recording = recording
        self.executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="rig")

    def decode_into(self, views, frame, camera):
        views[camera] = simplejpeg.decode_jpeg(self.recording[frame][camera])

    def __len__(self):
        return len(self.recording)

    def __getitem__(self, frame):
        views = np.empty((CAMERAS, *SHAPE), dtype=np.uint8)
        jobs = [self.executor.submit(self.decode_into, views, frame, camera) for camera in range(CAMERAS)]
        for job in jobs:
            job.result()
        return torch.from_numpy(views)


def make_loader():
    return DataLoader(RigDataset(record()), batch_size=16, shuffle=True)
