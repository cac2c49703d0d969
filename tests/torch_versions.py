"""What torch's own oldest supported version does otherwise."""

from __future__ import annotations

import pytest
import torch

IS_OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7)
newer_torch = pytest.mark.skipif(IS_OLD, reason="torch 2.6 itself, its own DataLoader too, does otherwise")
