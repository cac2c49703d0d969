"""The roofline copies the bytes of a batch into the same shapes."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest
import torch

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import roofline as module
from pytest_loaderperf.measurement.roofline import Roofline

BATCHES = {
    "tensor": (torch.arange(12.0).reshape(3, 4),),
    "several": {"x": torch.arange(6).reshape(3, 2), "y": (np.ones(3, np.float16), torch.tensor([True, False, True]))},
    "not contiguous": [torch.arange(12).reshape(3, 4).t()],
    "bfloat16 and a scalar": (torch.ones(3, dtype=torch.bfloat16), torch.tensor(2.5)),
    "empty beside full": (torch.zeros(3, 0), torch.arange(3)),
    "strings beside a tensor": (["a", "b", "c"], torch.arange(3)),
}


@pytest.mark.parametrize("epoch_batches", [1, 5])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_it_yields_the_same_values_shapes_and_dtypes_without_end(batch, epoch_batches):
    wanted = [leaf for leaf in module.array_leaves(batch) if leaf.numel()]
    for copied in islice(Roofline(batch, epoch_batches), 12):
        assert len(copied) == len(wanted)
        for leaf, want in zip(copied, wanted, strict=True):
            assert (leaf.shape, leaf.dtype) == (want.shape, want.dtype)
            assert torch.equal(leaf, want)


@pytest.mark.parametrize(
    "epoch_batches, batches", [(5, 5), (1, 2), (10**9, (256 << 20) // (1 << 20)), (None, (64 << 20) // (1 << 20))]
)
def test_its_source_is_as_large_as_an_epoch_and_bounded(epoch_batches, batches):
    made = Roofline(torch.zeros(1 << 18), epoch_batches)
    assert made._sources[0].nbytes == batches << 20


def test_every_batch_is_copied_from_another_place():
    made = Roofline(torch.zeros(4), 3)
    for i, source in enumerate(made._sources[0]):
        source[:] = i
    assert [int(batch[0].view(torch.uint8)[0]) for batch in islice(made, 7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("batch", [["a", "b"], object(), torch.zeros(0, 3), np.array(["a"])])
def test_a_batch_without_arrays_has_none_and_says_so(batch):
    words = (
        f"no roofline for batches of type {type(batch).__name__}: they contain no arrays to copy. Compare with another"
    )
    with pytest.raises(LoaderError, match=re.escape(words)):
        Roofline(batch, None)
