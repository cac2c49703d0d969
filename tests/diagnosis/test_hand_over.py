"""What a batch hands over, and how the processes of a pass are added up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch

from pytest_loaderperf.diagnosis.ledger import Site
from pytest_loaderperf.diagnosis.passes.pieces import sites_of
from pytest_loaderperf.diagnosis.passes.torch_parts import sent


@dataclass
class Graph:
    nodes: list[torch.Tensor]
    label: int = 0


X = torch.zeros(3, 4)  # 48 bytes


@pytest.mark.parametrize(
    "batch, tensors, nbytes",
    [
        ((X, {"y": X}), 2, 96),
        ([Graph([X, X]), Graph([X])], 3, 144),
        ([Graph([X], 1), "text"], 1, 48),
        ((X, np.zeros(4)), 1, 80),
        (["text", 7], 0, 0),
    ],
)
def test_tensors_of_a_batch_are_counted_also_in_a_list_of_objects(batch, tensors, nbytes):
    assert sent(batch) == (tensors, nbytes)


def test_what_two_expressions_of_one_line_saw_is_of_both():
    column = Site("data.py", 7, "f", "item", "pandas.DataFrame.__getitem__", count=2, within=("data.py:3",))
    mask = replace(column, dtypes=("bool",), within=("data.py:4",), held=(3, 4))
    (both,) = sites_of([{"sites": [asdict(column), asdict(mask)]}])
    assert (both.count, both.dtypes, both.held) == (4, ("bool",), (3, 4))
    assert both.within == ("data.py:3", "data.py:4")
