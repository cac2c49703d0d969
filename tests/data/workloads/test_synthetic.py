from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pytest_loaderperf.data import workload
from pytest_loaderperf.data.arrays.ragged import Ragged

SPECS = {
    "float arrays": {"factory": "arrays", "shape": [3]},
    "half arrays": {"factory": "arrays", "shape": [3], "dtype": "float16"},
    "bool arrays": {"factory": "arrays", "shape": [3], "dtype": "bool"},
    "single numbers": {"factory": "arrays", "shape": [], "dtype": "uint32"},
    "imbalanced": {"factory": "arrays", "shape": [2], "class_weights": [90, 9, 1]},
    "grey images": {"factory": "images", "shape": [5, 7]},
    "RGB images": {"factory": "images", "shape": [5, 7, 3], "dtype": "uint16"},
    "five-channel images": {"factory": "images", "shape": [4, 3, 5], "dtype": "float32"},
    "volumes": {
        "factory": "volumes",
        "shape": [2, 3, 5],
        "inputs": ["a", "b"],
        "targets": ["c", "d", "e"],
        "dtype": "uint16",
    },
    "tables": {"factory": "tables", "columns": {"x": "float32", "y": "float64", "n": "int16", "b": "bool"}},
    "tokens": {"factory": "tokens", "lengths": [1, 9], "vocabulary": 50},
    "uniform": {"factory": "uniform", "shape": [3]},
}
# The first 16 hex digits of sha256 over the bytes of all fields, of 20 samples with seed 3.
CHECKSUMS = {
    "float arrays": "53e66251eed1e96b",
    "half arrays": "19c967b50690f8f2",
    "bool arrays": "4b287dab6fe833ea",
    "single numbers": "3a296ceb86b6a8fc",
    "imbalanced": "d656cad5351f238e",
    "grey images": "ce32578421a59e3b",
    "RGB images": "a0c3a17ee9c90558",
    "five-channel images": "da1ac95f84cf27c2",
    "volumes": "e52a7ff3bb23de66",
    "tables": "bc7e4e0bf511897a",
    "tokens": "7cb12cc070903dbc",
    "uniform": "55d87ee7046f4662",
}


def made(kind, samples=20, seed=3):
    return workload(samples=samples, seed=seed, **SPECS[kind])


def checksum(columns) -> str:
    digest = hashlib.sha256()
    for rows in columns.values():
        for array in (rows.offsets, rows.values) if isinstance(rows, Ragged) else (rows,):
            digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("kind", SPECS)
def test_a_small_instance_is_the_same_bytes_on_every_machine(kind):
    assert checksum(made(kind).columns) == CHECKSUMS[kind]


@pytest.mark.parametrize("kind", SPECS)
def test_any_chunk_size_gives_the_same_rows(kind):
    whole = made(kind).batches(20).read_all()
    for rows in (1, 3, 7, None):
        assert made(kind).batches(rows).read_all().equals(whole)


@pytest.mark.parametrize("kind", [kind for kind in SPECS if kind != "uniform"])
def test_fewer_samples_are_the_first_ones_of_more(kind):
    assert made(kind, samples=8).batches(20).read_all().equals(made(kind).batches(20).read_all().slice(0, 8))


@pytest.mark.parametrize("kind", SPECS)
def test_another_seed_gives_other_bytes(kind):
    assert checksum(made(kind).columns) != checksum(made(kind, seed=4).columns)


@pytest.mark.parametrize("kind", SPECS)
def test_columns_have_the_shapes_and_dtypes_of_their_fields(kind):
    data = made(kind)
    assert list(data.columns) == [field.name for field in data.fields]
    for field, rows in zip(data.fields, data.columns.values(), strict=True):
        if field.shape is None:
            assert (len(rows), rows.values.dtype) == (20, field.dtype)
        else:
            assert (rows.shape, rows.dtype) == ((20, *field.shape), field.dtype)


def test_a_volume_has_its_inputs_then_its_targets_and_no_two_alike():
    columns = made("volumes").columns
    assert list(columns) == ["a", "b", "c", "d", "e"]
    assert len({rows.tobytes() for rows in columns.values()}) == 5


def test_a_token_row_has_a_length_and_ids_within_the_limits():
    rows = made("tokens", samples=2000).features
    lengths = np.diff(rows.offsets)
    assert (lengths.min(), lengths.max()) == (1, 9)
    assert set(np.unique(rows.values)) == set(range(50))
    assert [row.tolist() for row in rows][5] == rows[5].tolist() == rows[5 - 2000].tolist()


@pytest.mark.parametrize("index", [3, -4])
def test_a_ragged_row_that_is_not_there_is_an_index_error(index):
    rows = Ragged(np.arange(4), np.array([0, 1, 1, 4]), np.array([[1], [0], [3]]))
    assert [row.tolist() for row in rows] == [[0], [], [1, 2, 3]]
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3 rows"):
        rows[index]


def test_class_weights_say_how_often_each_class_comes():
    shares = np.bincount(made("imbalanced", samples=20_000).labels) / 20_000
    assert np.abs(shares - [0.9, 0.09, 0.01]).max() < 0.01
