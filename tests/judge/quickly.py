"""Which of many settings of one test are for ``make slow``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first_quickly(settings: Sequence[Any]) -> list[Any]:
    """The first as it is; simulations of the others take long."""
    values = [one if isinstance(one, tuple) else (one,) for one in settings[1:]]
    return [settings[0], *(pytest.param(*value, marks=pytest.mark.slow) for value in values)]
