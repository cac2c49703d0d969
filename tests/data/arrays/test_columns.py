from __future__ import annotations

import pickle
from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from pytest_loaderperf.data.arrays.columns import RowDataset, is_named
from pytest_loaderperf.loader import ReferenceLoader

N = 40
X = np.arange(N * 6, dtype=np.float32).reshape(N, 2, 3)
Y = np.arange(N)
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
BIG_ENDIAN = [">i2", ">i8", ">u2", ">f2", ">f4", ">f8", ">c8", ">c16"]
TORCH_ONLY = [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture(params=[0, 1, 2, None])
def arguments(request):
    return {"batch_size": 7, "num_workers": request.param}


@pytest.fixture(params=[False, True], ids=["in sequence", "shuffled"])
def shuffle(request):
    return request.param


def loaded(dataset: object, *, shuffle: bool, **arguments: object) -> list:
    """All batches of one epoch, joined along the rows and put back in sequence."""
    with ReferenceLoader({"rows": dataset, "y": Y}, shuffle=shuffle, **arguments) as loader:
        batches = list(loader)
    order = torch.cat([batch["y"] for batch in batches]).argsort()
    rows = [row for batch in batches for row in batch["rows"]]
    return [rows[i] for i in order]


class TestStructure:
    def test_a_dict_stays_a_dict_in_the_order_of_its_keys(self, arguments):
        for batch in ReferenceLoader({"b": Y, "a": X, 3: Y}, **arguments):
            assert type(batch) is dict
            assert list(batch) == ["b", "a", 3]
            assert torch.equal(batch["b"], batch[3])

    def test_keys_that_read_alike_stay_apart(self):
        batch = next(iter(ReferenceLoader({1: X, "1": Y}, 4)))
        assert batch[1].shape == (4, 2, 3)
        assert batch["1"].shape == (4,)

    def test_any_mapping_of_arrays_is_taken(self):
        assert list(next(iter(ReferenceLoader(OrderedDict(z=X, a=Y), 4)))) == ["z", "a"]

    @pytest.mark.parametrize("fields", [(X,), (X, Y), (Y, X, Y)])
    def test_a_tuple_stays_a_tuple_in_its_order(self, arguments, fields):
        for batch in ReferenceLoader(fields, **arguments):
            assert type(batch) is tuple
            assert [part.shape[1:] for part in batch] == [field.shape[1:] for field in fields]

    def test_a_tensor_dataset_gives_a_list_as_in_torch(self, arguments):
        dataset = TensorDataset(torch.tensor(X), torch.tensor(Y))
        for ours, theirs in zip(ReferenceLoader(dataset, **arguments), DataLoader(dataset, 7), strict=True):
            assert type(ours) is type(theirs) is list
            assert all(map(torch.equal, ours, theirs))

    @pytest.mark.parametrize("single", [X, torch.tensor(X)], ids=["array", "tensor"])
    def test_a_single_array_or_tensor_gives_tensors(self, arguments, single):
        assert {type(batch) for batch in ReferenceLoader(single, **arguments)} == {torch.Tensor}

    def test_arrays_and_tensors_mix(self):
        x, y = next(iter(ReferenceLoader((X, torch.tensor(Y)), 4)))
        assert (x.tolist(), y.tolist()) == (X[:4].tolist(), Y[:4].tolist())

    def test_rows_without_elements_keep_their_shape(self, arguments, shuffle):
        shapes = [tuple(batch.shape) for batch in ReferenceLoader(np.empty((10, 0, 3)), shuffle=shuffle, **arguments)]
        assert shapes == [(7, 0, 3), (3, 0, 3)]

    @pytest.mark.parametrize("protocol", ["__array__", "__dlpack__"])
    def test_a_tuple_of_what_shows_an_array_is_columns(self, protocol):
        shows = type("Shows", (), {protocol: lambda self, *arguments, **named: X})
        assert is_named((shows(),))
        assert not is_named((object(),))

    def test_a_subclass_of_tensor_dataset_keeps_its_own_getitem(self):
        class Negated(TensorDataset):
            def __getitem__(self, index):
                return tuple(-tensor for tensor in super().__getitem__(index))

        dataset = Negated(torch.tensor(X))
        for ours, theirs in zip(ReferenceLoader(dataset, 7), DataLoader(dataset, 7), strict=True):
            assert all(map(torch.equal, ours, theirs))


class TestOwnCollate:
    @pytest.mark.parametrize(
        "dataset",
        [X, torch.tensor(X), TensorDataset(torch.tensor(X), torch.tensor(Y))],
        ids=["array", "tensor", "TensorDataset"],
    )
    def test_collate_gets_the_samples_that_torchs_collate_gets(self, dataset):
        def kinds(samples):
            return [type(sample) for sample in samples], default_collate(samples)

        ours = ReferenceLoader(dataset, 7, collate_fn=kinds)
        for (our_kinds, our_batch), (their_kinds, their_batch) in zip(
            ours, DataLoader(dataset, 7, collate_fn=kinds), strict=True
        ):
            assert our_kinds == their_kinds
            assert all(map(torch.equal, our_batch, their_batch))

    @pytest.mark.parametrize("dtype", ["f4", *BIG_ENDIAN])
    def test_every_dtype_reaches_it(self, dtype):
        source = X.astype(dtype)
        batch = next(iter(ReferenceLoader({"x": source}, 7, collate_fn=default_collate)))
        assert np.array_equal(batch["x"].numpy(), source[:7])

    def test_samples_of_a_dict_are_dicts(self):
        batch = next(iter(ReferenceLoader({"y": Y}, 3, collate_fn=list)))
        assert batch == [{"y": torch.tensor(i)} for i in range(3)]

    def test_writing_into_a_sample_leaves_the_source_alone(self):
        source = X.copy()
        for samples in ReferenceLoader({"x": source}, 7, collate_fn=list):
            for sample in samples:
                sample["x"].zero_()
        assert np.array_equal(source, X)


class TestDtypes:
    def test_numpy_dtypes_and_their_values_arrive(self, arguments, shuffle):
        for dtype in (*DTYPES, *BIG_ENDIAN):
            source = (X % 100).astype(dtype)
            rows = loaded(source, shuffle=shuffle, **arguments)
            native = source.dtype.newbyteorder("=")
            assert {row.numpy().dtype for row in rows} == {native}, dtype
            assert np.array_equal([row.numpy() for row in rows], source), dtype

    def test_dtypes_that_numpy_lacks_arrive(self, arguments, shuffle):
        for dtype, strided in product(TORCH_ONLY, (False, True)):
            source = torch.tensor(X).to(dtype)
            if strided:
                source = source.transpose(1, 2)
            rows = loaded(source, shuffle=shuffle, **arguments)
            assert {row.dtype for row in rows} == {dtype}, (dtype, strided)
            assert torch.equal(torch.stack([row.float() for row in rows]), source.float()), (dtype, strided)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 1e-45], ids=str)
    def test_special_floats_keep_their_bits(self, shuffle, value):
        source = np.full((N, 2), value, np.float32)
        rows = loaded(source, shuffle=shuffle, batch_size=7, num_workers=0)
        assert np.stack([row.numpy() for row in rows]).tobytes() == source.tobytes()


def unaligned() -> np.ndarray:
    return np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)


LAYOUTS = {
    "Fortran order": lambda: np.asfortranarray(X),
    "transposed rows": lambda: np.ascontiguousarray(X.swapaxes(1, 2)).swapaxes(1, 2),
    "reversed": lambda: X[::-1].copy()[::-1],
    "every second row": lambda: np.repeat(X, 2, axis=0)[::2],
    "broadcast": lambda: np.broadcast_to(X[0], X.shape),
    "unaligned": unaligned,
    "field of a struct": lambda: np.rec.fromarrays([Y.astype("i1"), Y.astype("f4")])["f1"],
    "expanded tensor": lambda: torch.tensor(X[0]).expand(X.shape),
    "transposed tensor": lambda: torch.tensor(X).transpose(1, 2),
    "tensor that requires a gradient": lambda: torch.tensor(X, requires_grad=True),
    "conjugated tensor": lambda: torch.tensor(X * (1 + 2j)).conj(),
    "negated view": lambda: torch.tensor(X * (1 + 2j)).conj().imag,
}


class TestLayouts:
    def test_any_layout_gives_the_values_of_its_rows(self, arguments, shuffle):
        for layout, make in LAYOUTS.items():
            source = make()
            rows = loaded(source, shuffle=shuffle, **arguments)
            values = source.detach().resolve_conj().resolve_neg() if isinstance(source, torch.Tensor) else source
            assert np.array_equal([row.numpy() for row in rows], np.asarray(values)), layout

    def test_batches_do_not_require_a_gradient(self, arguments):
        source = {"x": torch.tensor(X, requires_grad=True)}
        assert not any(batch["x"].requires_grad for batch in ReferenceLoader(source, **arguments))

    @pytest.mark.parametrize("collate_fn", [None, default_collate], ids=["columns", "own collate"])
    def test_a_read_only_memory_map_gives_batches_that_may_be_written(self, arguments, shuffle, tmp_path, collate_fn):
        path = tmp_path / "rows.bin"
        X.tofile(path)
        source = np.memmap(path, np.float32, mode="r", shape=X.shape)
        total = 0.0
        for batch in ReferenceLoader({"x": source}, shuffle=shuffle, collate_fn=collate_fn, **arguments):
            total += batch["x"].sum().item()
            batch["x"].zero_()
        assert total == X.sum()
        assert path.read_bytes() == X.tobytes()


def test_rows_are_sent_to_another_process_with_their_source_alone():
    sent = pickle.dumps(RowDataset({"x": X, "y": Y}))
    assert len(sent) < 1.5 * (X.nbytes + Y.nbytes)
    row = pickle.loads(sent)[3]  # noqa: S301 our own
    assert (row["x"].tolist(), row["y"].tolist()) == (X[3].tolist(), 3)
