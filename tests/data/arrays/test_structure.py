"""Samples as arrays: what is written to a row, and what may not be."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from pytest_loaderperf.data.arrays.fields import field_of, tensor_over
from pytest_loaderperf.data.arrays.structure import SampleMismatchError, columns, write


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_a_tensor_is_written_also_of_a_dtype_that_numpy_lacks(dtype):
    sample = torch.tensor([1.0, -2.0, 0.5]).to(dtype)
    field = field_of(sample, "")
    array = np.zeros((2, *field.shape), field.dtype)
    write(sample, [field], [array], 1)
    written = tensor_over(array, field.torch_dtype)
    assert written.dtype == dtype
    assert written.float().tolist() == [[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]]


@pytest.mark.parametrize(
    "sample, words",
    [
        (np.zeros(2), "expected float64 of shape (3,), got float64 of shape (2,)."),
        ("text", "expected float64 of shape (3,), got no numbers."),
    ],
)
def test_a_sample_that_does_not_fit_its_row_is_refused(sample, words):
    field = field_of(np.zeros(3), "")
    with pytest.raises(SampleMismatchError, match=f"^sample 1 of the batch differs: {re.escape(words)}$"):
        write(sample, [field], [np.zeros((2, 3))], 1)


@pytest.mark.parametrize("containers", [[(1, 2), [1, 2]], [(1, 2), (1, 2, 3)], [{"a": 1}, {"a": 1, "b": 2}]])
def test_containers_that_differ_have_no_columns(containers):
    with pytest.raises((TypeError, ValueError)):
        list(columns(containers))
