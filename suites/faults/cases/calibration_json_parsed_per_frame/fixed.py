"""The calibration text is parsed once, when the dataset is made."""

import json

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


def simulate(frames, sensors, seed=29):
    rng = np.random.default_rng(seed)
    table = {f"s{n}": {"gain": 1 + n / 1024, "offset": n / 64, "unit": "adu"} for n in range(sensors)}
    pixels = rng.integers(0, 256, (frames, 40, 40), dtype=np.uint8)
    return pixels, [f"s{n}" for n in rng.integers(0, sensors, frames)], json.dumps(table)


class SensorFrames(Dataset):
    def __init__(self):
        self.pixels, self.sensor, calibration = simulate(frames=768, sensors=300)
        self.calibration = json.loads(calibration)

    def __len__(self):
        return len(self.pixels)

    def _correct(self, frame, sensor):
        entry = self.calibration[sensor]
        return frame.mul_(entry["gain"]).sub_(entry["offset"])

    def __getitem__(self, i):
        return self._correct(torch.from_numpy(self.pixels[i]).float(), self.sensor[i])


def make_loader():
    return DataLoader(SensorFrames(), batch_size=32, shuffle=True, drop_last=True)
