from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pytest_loaderperf.data import ArrayDataset, BatchedArrayDataset, as_is

FEATURES = np.arange(20, dtype=np.float32).reshape(10, 2)
LABELS = np.arange(10, dtype=np.int64)


def test_a_sample_is_a_pair_of_tensors_that_share_memory_with_the_arrays():
    dataset = ArrayDataset(FEATURES, LABELS)
    features, label = dataset[3]
    assert len(dataset) == 10
    assert (features.tolist(), label.item()) == ([6, 7], 3)
    assert features.data_ptr() == FEATURES[3:].ctypes.data


@pytest.mark.parametrize("indices", [[3], [9, 0, 3]])
def test_getitems_gives_the_rows_at_the_indices_in_their_order(indices):
    features, labels = BatchedArrayDataset(FEATURES, LABELS).__getitems__(indices)
    assert features.numpy().tolist() == FEATURES[indices].tolist()
    assert labels.tolist() == indices


def test_a_batch_of_getitems_is_a_copy():
    source = FEATURES.copy()
    BatchedArrayDataset(source, LABELS).__getitems__([0, 1])[0].zero_()
    assert np.array_equal(source, FEATURES)


def test_a_missing_index_is_an_index_error():
    with pytest.raises(IndexError):
        ArrayDataset(FEATURES, LABELS)[10]


def test_torch_loads_the_same_batches_one_by_one_and_at_once():
    one_by_one = DataLoader(ArrayDataset(FEATURES, LABELS), batch_size=4)
    at_once = DataLoader(BatchedArrayDataset(FEATURES, LABELS), batch_size=4, collate_fn=as_is)
    for expected, came in zip(one_by_one, at_once, strict=True):
        assert all(map(torch.equal, expected, came))


def test_as_is_gives_back_the_same_object():
    batch = object()
    assert as_is(batch) is batch
