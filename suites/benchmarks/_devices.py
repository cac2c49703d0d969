"""Where batches arrive."""

from __future__ import annotations

import torch

DEVICES = ["cpu", "cuda"]


def usable() -> list[str]:
    """The devices of this machine."""
    return DEVICES if torch.cuda.is_available() else DEVICES[:1]
