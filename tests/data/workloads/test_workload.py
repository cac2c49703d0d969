from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from pytest_loaderperf.data import load_spec, workload, workload_names
from pytest_loaderperf.data.arrays.ragged import Ragged
from pytest_loaderperf.data.workloads.workload import Workload
from pytest_loaderperf.errors import DataError

# The first 16 hex digits of sha256 over the bytes of the features and of the labels.
CHECKSUMS = {
    "digits": ("a627aed550b0b29b", "a3c91c262eddcf7b"),
    "vectors": ("b3bb88afdf72a61f", "539820586da95db4"),
}


def arrays_of(spec):
    return Workload(spec).arrays


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
    first, again, other = (arrays_of(replace(spec, seed=seed)) for seed in (1, 1, 2))
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    assert all(a.tobytes() != b.tobytes() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_features_come_in_the_dtype_of_the_spec(dtype):
    features, labels = arrays_of(replace(load_spec("vectors"), samples=5, shape=(2, 3), dtype=dtype))
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
        arrays_of(replace(load_spec("vectors"), factory="gauss"))
    known = "arrays, digits, images, photos, tables, tiffs, tokens, uniform, volumes"
    assert str(caught.value) == f"workload 'vectors': unknown factory 'gauss'. Known: {known}."


@pytest.mark.parametrize("change, expected", [({"samples": 5}, "(5, 8, 8)"), ({"shape": (64,)}, "(1797, 64)")])
def test_data_that_differ_from_the_spec_are_refused_with_both_shapes(change, expected):
    with pytest.raises(DataError) as caught:
        arrays_of(replace(load_spec("digits"), **change))
    assert str(caught.value) == (
        f"workload 'digits': the spec says features {expected}, got (1797, 8, 8) with 1797 labels. Fix the spec."
    )


@pytest.mark.parametrize(
    "change", [{"dtype": "florp"}, {"seed": -1}, {"shape": ("a",)}], ids=["dtype", "seed", "shape"]
)
def test_a_value_that_no_array_can_be_made_from_is_refused_by_the_name_of_its_key(change):
    with pytest.raises(DataError, match=next(iter(change))):
        arrays_of(replace(load_spec("vectors"), samples=2, **change))


@pytest.mark.parametrize("batched", [False, True])
def test_a_workload_makes_a_dataset_over_its_own_arrays(batched):
    made = workload("digits")
    dataset = made.dataset(batched=batched)
    assert len(dataset) == 1797
    assert hasattr(dataset, "__getitems__") is batched
    assert dataset.features.data_ptr() == made.features.ctypes.data


def test_keywords_alone_make_a_workload():
    made = workload(factory="images", samples=5, shape=[4, 6], dtype="uint16")
    assert (made.spec.name, made.features.shape, made.features.dtype) == ("images", (5, 4, 6), np.uint16)


@pytest.mark.parametrize("name", workload_names())
def test_every_bundled_workload_streams_the_arrays_it_has_in_memory(name):
    made = workload(name) if name == "digits" else workload(name, samples=40)
    table = made.batches(17).read_all()
    table.validate(full=True)
    assert table.column_names == [field.name for field in made.fields]
    for column, rows in zip(table.columns, made.columns.values(), strict=True):
        if isinstance(rows, Ragged):
            assert column.to_pylist() == [row.tolist() for row in rows]
        else:
            stored = column.combine_chunks()
            assert np.array_equal(stored.to_numpy_ndarray() if rows.ndim > 1 else stored.to_numpy(False), rows)
    assert made.nbytes == sum(rows.nbytes for rows in made.columns.values())


def test_millions_of_samples_are_described_without_being_drawn():
    made = workload("images", samples=5_000_000)
    assert (len(made), made.nbytes) == (5_000_000, 5_000_000 * (100 * 100 * 2 + 8))
    first = made.batches().read_next_batch()
    assert 4 << 20 < first.nbytes <= 8 << 20
    assert "columns" not in vars(made)


def test_batches_need_a_positive_number_of_rows():
    with pytest.raises(DataError) as caught:
        workload("images").batches(0)
    assert str(caught.value) == "rows: expected an integer of at least 1 or None, got 0."


@pytest.mark.parametrize("attribute", ["features", "labels"])
@pytest.mark.parametrize("name, fields", [("volumes", "brightfield, phase, nuclei, membrane")])
def test_a_workload_of_many_fields_has_columns_instead_of_features(name, fields, attribute):
    with pytest.raises(DataError) as caught:
        getattr(workload(name), attribute)
    assert str(caught.value) == f"workload 'volumes' has the fields {fields}, not one of features. Use .columns."


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", ["volumes", "tables"])
def test_a_workload_of_many_fields_makes_a_dataset_of_dicts(name, batched):
    made = workload(name, samples=6)
    assert made.arrays is made.columns
    dataset = made.dataset(batched=batched)
    for key, value in dataset[4].items():
        assert np.array_equal(value.numpy(), made.columns[key][4])
    assert hasattr(dataset, "__getitems__") is batched


def test_tokens_make_a_dataset_of_rows_of_their_own_lengths():
    made = workload("tokens", samples=6)
    dataset = made.dataset()
    assert len(dataset) == 6
    tokens, label = dataset[4]
    assert (tokens.tolist(), label.item()) == (made.features[4].tolist(), made.labels[4])
    with pytest.raises(DataError) as caught:
        made.dataset(batched=True)
    assert str(caught.value) == "workload 'tokens' has rows of different lengths. Use batched=False."
