from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from pytest_loaderperf.data import load_spec, workload
from pytest_loaderperf.data.synthetic import make_arrays
from pytest_loaderperf.errors import DataError

# The first 16 hex digits of sha256 over the bytes of the features and of the labels.
CHECKSUMS = {
    "digits": ("a627aed550b0b29b", "a3c91c262eddcf7b"),
    "vectors": ("b3bb88afdf72a61f", "539820586da95db4"),
}


def checksum(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name, shape", [("digits", (1797, 8, 8)), ("vectors", (10000, 784))])
def test_a_bundled_workload_has_the_shapes_and_dtypes_of_its_spec(name, shape):
    made = workload(name)
    assert (made.features.shape, made.features.dtype) == (shape, np.float32)
    assert (made.labels.shape, made.labels.dtype) == (shape[:1], np.int64)
    assert set(np.unique(made.labels)) == set(range(made.spec.classes))
    assert made.nbytes == sum(array.nbytes for array in made.arrays)


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_bundled_workload_is_the_same_bytes_on_every_machine(name):
    assert tuple(map(checksum, workload(name).arrays)) == CHECKSUMS[name]


def test_the_seed_alone_determines_the_bytes():
    spec = replace(load_spec("vectors"), samples=50)
    first, again, other = (make_arrays(replace(spec, seed=seed)) for seed in (1, 1, 2))
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    assert all(a.tobytes() != b.tobytes() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_features_come_in_the_dtype_of_the_spec(dtype):
    features, labels = make_arrays(replace(load_spec("vectors"), samples=5, shape=(2, 3), dtype=dtype))
    assert (features.dtype, features.shape, labels.dtype) == (dtype, (5, 2, 3), np.int64)


def test_without_scikit_learn_digits_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError) as caught:
        workload("digits")
    assert str(caught.value) == (
        "workload 'digits' is bundled with scikit-learn, which is not installed. Run: pip install scikit-learn"
    )


def test_an_unknown_factory_is_refused_with_the_known_ones():
    with pytest.raises(DataError) as caught:
        make_arrays(replace(load_spec("vectors"), factory="gauss"))
    assert str(caught.value) == "workload 'vectors': unknown factory 'gauss'. Known: digits, uniform."


@pytest.mark.parametrize("change, expected", [({"samples": 5}, "(5, 8, 8)"), ({"shape": (64,)}, "(1797, 64)")])
def test_data_that_differ_from_the_spec_are_refused_with_both_shapes(change, expected):
    with pytest.raises(DataError) as caught:
        make_arrays(replace(load_spec("digits"), **change))
    assert str(caught.value) == (
        f"workload 'digits': the spec says features {expected}, but (1797, 8, 8) with 1797 labels came. Mend the spec."
    )


@pytest.mark.parametrize(
    "change", [{"dtype": "florp"}, {"seed": -1}, {"shape": ("a",)}], ids=["dtype", "seed", "shape"]
)
def test_a_value_that_no_array_can_be_made_from_is_refused_by_the_name_of_its_key(change):
    with pytest.raises(DataError, match=next(iter(change))):
        make_arrays(replace(load_spec("vectors"), samples=2, **change))


@pytest.mark.parametrize("batched", [False, True])
def test_a_workload_makes_a_dataset_over_its_own_arrays(batched):
    made = workload("digits")
    dataset = made.dataset(batched=batched)
    assert len(dataset) == 1797
    assert hasattr(dataset, "__getitems__") is batched
    assert dataset.features.data_ptr() == made.features.ctypes.data
