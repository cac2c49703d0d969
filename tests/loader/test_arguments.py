from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_loaderperf.data import PersistentExecutor
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader, engines

ROWS = np.zeros((10, 2), np.float32)


def refusal(dataset: object, **arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        ReferenceLoader(dataset, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("argument, least", [("prefetch_factor", 1), ("memory_budget", 1), ("seed", 0)])
@pytest.mark.parametrize("value", [-1, 2.0, True, "2"])
def test_a_count_that_is_not_a_whole_number_is_refused(argument, least, value):
    assert refusal(ROWS, **{argument: value}) == f"{argument} must be a whole number from {least} up, got {value!r}."


@pytest.mark.parametrize("value", [2.0, True, "2"])
def test_a_number_of_workers_that_is_no_whole_number_is_refused(value):
    assert refusal(ROWS, num_workers=value) == f"num_workers must be a whole number, got {value!r}."


@pytest.mark.parametrize("argument", ["memory_budget", "prefetch_factor"])
def test_a_count_of_zero_is_refused_where_it_makes_no_sense(argument):
    assert refusal(ROWS, **{argument: 0}) == f"{argument} must be a whole number from 1 up, got 0."


@pytest.mark.parametrize("value", [-1, True, "5", 1.5, -0.1, None])
def test_an_error_limit_that_is_neither_count_nor_share_is_refused(value):
    assert refusal(ROWS, error_limit=value) == (
        f"error_limit must be a count of samples from 0 up, or a share from 0.0 to 1.0, got {value!r}."
    )


@pytest.mark.parametrize(
    "argument, choices",
    [("worker_kind", "'auto', 'threads', 'processes'"), ("on_error", "'raise', 'skip'")],
)
def test_a_word_that_is_not_among_the_choices_is_refused(argument, choices):
    assert refusal(ROWS, **{argument: "green"}) == f"{argument} must be one of {choices}, got 'green'."


@pytest.mark.parametrize(
    "share, text",
    [
        ({"rank": 0}, "rank and world_size go together, got rank=0 and world_size=None."),
        ({"world_size": 2}, "rank and world_size go together, got rank=None and world_size=2."),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size=2, got 2. Ranks count from 0."),
        ({"rank": -1, "world_size": 2}, "rank must be a whole number from 0 up, got -1."),
        ({"rank": 0, "world_size": 0}, "world_size must be a whole number from 1 up, got 0."),
        (
            {"rank": 0, "world_size": 2, "sampler": [1, 2]},
            "rank and world_size cut the loader's own order, got a sampler. Let the sampler do it.",
        ),
    ],
)
def test_a_share_that_cannot_be_cut_is_refused(share, text):
    assert refusal(ROWS, **share) == text


def test_what_can_only_be_iterated_is_refused_with_the_way_out():
    assert refusal(iter([1, 2])) == (
        "the dataset must be a dict or tuple of arrays or tensors, an IterableDataset, or a map-style dataset with "
        "__len__ and __getitem__, got list_iterator. Make what can only be iterated an IterableDataset."
    )


def test_a_negative_epoch_is_refused():
    with pytest.raises(DataError) as caught:
        ReferenceLoader(ROWS).set_epoch(-1)
    assert str(caught.value) == "epoch must be a whole number from 0 up, got -1."


def test_a_prefetch_factor_without_workers_is_refused():
    with pytest.raises(ValueError, match="prefetch_factor option could only be specified in multiprocessing"):
        ReferenceLoader(ROWS, num_workers=0, prefetch_factor=2)


@pytest.mark.parametrize("empty", [{}, ()], ids=["dict", "tuple"])
def test_a_dataset_without_fields_is_refused(empty):
    assert refusal(empty) == "the dataset has no fields. Expected at least one array or tensor."


def test_fields_of_different_lengths_are_refused_with_their_lengths():
    assert refusal({"x": ROWS, "y": torch.zeros(9)}) == (
        "expected fields of one length, got {'x': 10, 'y': 9}. Cut them to the same number of samples."
    )


@pytest.mark.parametrize("field, kind", [([1, 2], "list"), (None, "NoneType"), ("rows", "str")])
def test_a_field_that_is_no_array_is_refused_by_name(field, kind):
    assert refusal({"x": field}) == f"field 'x': expected an array or a tensor, got {kind}. Call np.asarray first."


@pytest.mark.parametrize("scalar", [np.array(1.0), torch.tensor(1.0), torch.tensor(1.0, dtype=torch.bfloat16)])
def test_a_field_without_rows_is_refused(scalar):
    assert refusal((scalar,)) == "field '0' is a single number; expected rows along its first dimension."


@pytest.mark.parametrize(
    "dtype, shown",
    [("U3", "<U3"), ("O", "object"), ("M8[s]", "datetime64[s]"), ("i4,f4", "[('f0', '<i4'), ('f1', '<f4')]")],
)
def test_a_dtype_that_no_tensor_holds_is_refused(dtype, shown):
    assert refusal({"0": np.zeros(2, dtype)}) == (
        f"field '0' has dtype {shown}, which no tensor can hold. "
        "Expected bool, int, float or complex numbers: encode it, or give a map-style dataset with a collate_fn."
    )


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_a_float_wider_than_torchs_is_refused():
    dtype = np.dtype(np.longdouble)
    assert refusal(np.zeros(2, dtype)) == (f"field '0' has dtype {dtype}, which torch lacks. Convert it to float64.")


@pytest.mark.parametrize(
    "tensor, shown",
    [
        (torch.zeros(3, device="meta"), "torch.strided tensor on meta"),
        (torch.zeros(3, 3).to_sparse(), "torch.sparse_coo tensor on cpu"),
    ],
    ids=["device", "sparse"],
)
def test_a_tensor_that_is_not_dense_on_the_cpu_is_refused(tensor, shown):
    assert refusal({"x": tensor}) == (
        f"field 'x' is a {shown}; expected a dense one on the CPU. Call .cpu() or .to_dense() first."
    )


@pytest.mark.parametrize(
    "samples, batch_size, drop_last, batches",
    [(10, 3, False, 4), (10, 3, True, 3), (9, 3, False, 3), (2, 5, False, 1), (2, 5, True, 0), (0, 5, False, 0)],
)
@pytest.mark.parametrize("wrap", [np.zeros, lambda n: [0] * n], ids=["array", "map-style"])
def test_len_counts_the_batches_of_an_epoch(wrap, samples, batch_size, drop_last, batches):
    assert len(ReferenceLoader(wrap(samples), batch_size, drop_last=drop_last)) == batches


@pytest.mark.parametrize("shuffle, shuffles", [(None, False), (False, False), (True, True)])
def test_shuffle_is_off_unless_asked_for(shuffle, shuffles):
    assert ReferenceLoader(ROWS, 2, shuffle).shuffle is shuffles


def test_the_repr_tells_every_choice_that_was_made():
    loader = ReferenceLoader(ROWS, 4, shuffle=True, num_workers=2, prefetch_factor=3)
    assert repr(loader) == (
        "ReferenceLoader(ndarray, batch_size=4, shuffle=True, drop_last=False, num_workers=2, prefetch_depth=6)"
    )


class TestWorkers:
    def chosen(self, dataset: object, monkeypatch: pytest.MonkeyPatch, cores: int = 8, **arguments: object) -> int:
        monkeypatch.setattr(engines, "usable_cores", lambda: cores)
        return ReferenceLoader(dataset, 32, **arguments).num_workers

    @pytest.mark.parametrize("cores, workers", [(1, 0), (2, 1), (4, 3), (64, 3)])
    def test_large_arrays_get_a_thread_for_each_core_but_the_consumers(self, monkeypatch, cores, workers):
        large = np.broadcast_to(np.float32(0), (10_000, 64, 1024))
        assert self.chosen(large, monkeypatch, cores) == workers

    def test_small_arrays_get_none(self, monkeypatch):
        assert self.chosen(ROWS, monkeypatch) == 0

    def test_map_style_datasets_get_none_as_they_may_not_bear_threads(self, monkeypatch):
        assert self.chosen([0] * 100, monkeypatch) == 0

    def test_a_given_executor_sets_their_number(self, monkeypatch):
        assert self.chosen(ROWS, monkeypatch, executor=PersistentExecutor(2)) == 2

    @pytest.mark.parametrize("dataset", [ROWS, [0] * 100], ids=["array", "map-style"])
    @pytest.mark.parametrize("workers", [0, 1, 5])
    def test_a_given_number_is_kept(self, monkeypatch, dataset, workers):
        assert self.chosen(dataset, monkeypatch, num_workers=workers, worker_kind="threads") == workers

    @pytest.mark.parametrize("dataset", [ROWS, [0] * 100], ids=["array", "map-style"])
    def test_each_has_prefetch_factor_batches_in_flight(self, dataset):
        assert ReferenceLoader(dataset, 2, num_workers=2, prefetch_factor=4).prefetch_depth == 8

    @pytest.mark.parametrize("worker_kind, depth", [("threads", 2), ("processes", 4)])
    def test_samples_are_fetched_ahead_by_one_batch_a_thread_and_by_two_a_process_as_in_torch(self, worker_kind, depth):
        assert ReferenceLoader([0] * 100, 2, num_workers=2, worker_kind=worker_kind).prefetch_depth == depth


class Words:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    "arguments, expected, came",
    [
        ({"executor": 3}, "executor must be a pytest_loaderperf.data.execution.executor.PersistentExecutor", "3"),
        ({"generator": 3}, "generator must be a torch._C.Generator", "3"),
        ({"device": "gpu"}, "device must be 'cpu', 'cuda' or 'cuda:N'", "'gpu'"),
        ({"device": "cuda:-1"}, "device must be 'cpu', 'cuda' or 'cuda:N'", "'cuda:-1'"),
        ({"device": None}, "device must be 'cpu', 'cuda' or 'cuda:N'", "None"),
    ],
)
def test_what_is_of_another_kind_is_refused(arguments, expected, came):
    with pytest.raises(DataError) as caught:
        ReferenceLoader(Words(), **arguments)
    assert str(caught.value) == f"{expected}, got {came}."


def test_a_torch_device_may_be_given():
    assert next(iter(ReferenceLoader(Words(), 4, device=torch.device("cpu")))).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("argument", [{"worker_init_fn": print}, {"multiprocessing_context": "spawn"}])
def test_what_is_for_processes_is_refused_with_threads(argument):
    with pytest.raises(DataError) as caught:
        ReferenceLoader(Words(), worker_kind="threads", num_workers=1, **argument)
    assert str(caught.value) == (
        "worker_init_fn and multiprocessing_context are for worker processes, got worker_kind='threads'. "
        "Leave them out, or choose worker_kind='processes'."
    )


@pytest.mark.parametrize("workers", [{"num_workers": 1}, {"worker_kind": "processes"}])
def test_a_budget_that_processes_cannot_keep_to_is_refused(workers):
    with pytest.raises(DataError) as caught:
        ReferenceLoader(Words(), memory_budget=1000, **workers)
    assert str(caught.value) == (
        "memory_budget=1000 cannot bound what worker processes prefetch, for the size of their batches shows too late. "
        'Leave one of the two out, or choose worker_kind="threads".'
    )


@pytest.mark.parametrize("size", [5, 10**6, 10**12])
@pytest.mark.parametrize("arguments", [{}, {"sampler": [3, 1, 1, 0]}, {"memory_budget": 1000}], ids=str)
def test_a_batch_larger_than_the_arrays_takes_no_more_memory_than_they(size, arguments):
    with ReferenceLoader(np.arange(4.0), size, **arguments) as loader:
        (batch,) = loader
        assert batch.tolist() == ([3.0, 1.0, 1.0, 0.0] if "sampler" in arguments else [0.0, 1.0, 2.0, 3.0])
        assert loader.memory.batch == 32


def test_processes_left_open_are_one_for_an_iterable_dataset():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(4))

    with ReferenceLoader(Stream(), 2, worker_kind="processes") as loader:
        assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_an_arrow_array_is_gathered_from_like_any_other():
    pa = pytest.importorskip("pyarrow")
    for source in (pa.array([1.5, 2.5, 3.5]), pa.chunked_array([[1.5, 2.5, 3.5]])):
        assert torch.cat(list(ReferenceLoader(source, 2))).tolist() == [1.5, 2.5, 3.5]
