"""Arguments: which there are, which go together, what they leave behind, and the class as a class."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

LETTERS = TensorDataset(torch.arange(6))
SAMPLER = SequentialSampler(LETTERS)
BATCH_SAMPLER = BatchSampler(SAMPLER, 3, drop_last=False)
POSITIONAL = [
    *("dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "collate_fn", "pin_memory"),
    *("drop_last", "timeout", "worker_init_fn", "multiprocessing_context", "generator"),
]
KEYWORDS = ["prefetch_factor", "persistent_workers", "pin_memory_device", "in_order"]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


STREAM = Stream()
EXCLUSIVE = "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
NOT_WITH_A_STREAM = "DataLoader with IterableDataset: expected unspecified"
REFUSED = {
    "negative num_workers": (
        {"num_workers": -1},
        "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.",
    ),
    "negative timeout": ({"timeout": -1}, "timeout option should be non-negative"),
    "prefetch_factor without workers": (
        {"prefetch_factor": 2, "num_workers": 0},
        (
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        ),
    ),
    "negative prefetch_factor": (
        {"prefetch_factor": -1, "num_workers": 2},
        "prefetch_factor option should be non-negative",
    ),
    "persistent_workers without workers": (
        {"persistent_workers": True, "num_workers": 0},
        "persistent_workers option needs num_workers > 0",
    ),
    "sampler and shuffle": (
        {"sampler": SAMPLER, "shuffle": True},
        "sampler option is mutually exclusive with shuffle",
    ),
    "sampler and batch_sampler and shuffle": (
        {"sampler": SAMPLER, "batch_sampler": BATCH_SAMPLER, "shuffle": 3},
        "sampler option is mutually exclusive with shuffle",
    ),
    "batch_sampler and batch_size": ({"batch_sampler": BATCH_SAMPLER, "batch_size": 11}, EXCLUSIVE),
    "batch_sampler and no batch_size": ({"batch_sampler": BATCH_SAMPLER, "batch_size": None}, EXCLUSIVE),
    "batch_sampler and shuffle": ({"batch_sampler": BATCH_SAMPLER, "shuffle": True}, EXCLUSIVE),
    "batch_sampler and sampler": ({"batch_sampler": BATCH_SAMPLER, "sampler": SAMPLER}, EXCLUSIVE),
    "batch_sampler and drop_last": ({"batch_sampler": BATCH_SAMPLER, "drop_last": True}, EXCLUSIVE),
    "drop_last without batches": (
        {"batch_size": None, "drop_last": True},
        "batch_size=None option disables auto-batching and is mutually exclusive with drop_last",
    ),
    "batch_size 0": ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
    "batch_size that is no int": (
        {"batch_size": 2.5},
        "batch_size should be a positive integer value, but got batch_size=2.5",
    ),
    "batch_size that is a bool": (
        {"batch_size": True},
        "batch_size should be a positive integer value, but got batch_size=True",
    ),
    "drop_last that is no bool": ({"drop_last": 3}, "drop_last should be a boolean value, but got drop_last=3"),
    "multiprocessing_context without workers": (
        {"multiprocessing_context": "fork", "num_workers": 0},
        "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got num_workers=0",
    ),
    "multiprocessing_context by an unknown name": (
        {"multiprocessing_context": "bad", "num_workers": 1},
        (
            "multiprocessing_context option should specify a valid start method in "
            f"{multiprocessing.get_all_start_methods()!r}, but got multiprocessing_context='bad'"
        ),
    ),
    "stream and shuffle": (
        {"dataset": STREAM, "shuffle": True},
        f"{NOT_WITH_A_STREAM} shuffle option, but got shuffle=True",
    ),
    "stream and shuffle by a number": (
        {"dataset": STREAM, "shuffle": 3},
        f"{NOT_WITH_A_STREAM} shuffle option, but got shuffle=3",
    ),
    "stream and sampler": ({"dataset": STREAM, "sampler": 3}, f"{NOT_WITH_A_STREAM} sampler option, but got sampler=3"),
    "stream and batch_sampler": (
        {"dataset": STREAM, "batch_sampler": 3},
        f"{NOT_WITH_A_STREAM} batch_sampler option, but got batch_sampler=3",
    ),
}
GUARDED = ["batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"]


class Doubling:
    """Mixed into a loader class: what users do in subclasses."""

    def __init__(self, dataset, **arguments):
        self.made_before = True
        super().__init__(dataset, collate_fn=self.double, **arguments)
        self.note = "kept"

    @staticmethod
    def double(samples):
        return [2 * sample for sample in samples]

    def __iter__(self):
        for batch in super().__iter__():
            yield [*batch, "more"]

    def __len__(self):
        return super().__len__() + 100


def test_the_arguments_have_torchs_names_and_order(loader_class):
    parameters = inspect.signature(loader_class).parameters
    assert list(parameters)[: len(POSITIONAL)] == POSITIONAL
    assert {parameters[name].kind for name in POSITIONAL} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert set(KEYWORDS) <= set(parameters)
    assert {parameters[name].kind for name in list(parameters)[len(POSITIONAL) :]} == {inspect.Parameter.KEYWORD_ONLY}


def test_what_is_left_out_is_as_in_torch(loader_class):
    """But for what ReferenceLoader decides by itself."""
    parameters = inspect.signature(loader_class).parameters
    defaults = {name: parameters[name].default for name in ("batch_size", "drop_last", "timeout", "in_order")}
    assert defaults == {"batch_size": 1, "drop_last": False, "timeout": 0, "in_order": True}
    optional = ["sampler", "batch_sampler", "collate_fn", "worker_init_fn", "multiprocessing_context", "generator"]
    assert [parameters[name].default for name in optional] == [None] * len(optional)


def test_all_may_be_given_by_position(loader_class):
    generator = torch.Generator().manual_seed(0)
    loader = loader_class(
        list(range(5)), 2, False, [4, 3, 2, 1, 0], None, 0, list, False, True, 0, None, None, generator
    )
    assert list(loader) == [[4, 3], [2, 1]]
    assert loader.generator is generator


@pytest.mark.parametrize("arguments, text", REFUSED.values(), ids=REFUSED)
def test_what_does_not_go_together_is_refused_in_torchs_words(loader_class, arguments, text):
    arguments = {"num_workers": 0, **arguments}
    with pytest.raises(ValueError) as caught:
        loader_class(arguments.pop("dataset", LETTERS), **arguments)
    assert str(caught.value) == text


def test_a_context_that_is_none_is_refused_in_torchs_words(loader_class):
    context = object()
    with pytest.raises(TypeError) as caught:
        loader_class(LETTERS, num_workers=1, multiprocessing_context=context)
    assert str(caught.value) == (
        "multiprocessing_context option should be a valid context object or a string specifying the start method, "
        f"but got multiprocessing_context={context}"
    )


@pytest.mark.parametrize(
    "dataset",
    [list(range(6)), TensorDataset(torch.arange(6)), torch.arange(6)],
    ids=lambda dataset: type(dataset).__name__,
)
def test_more_workers_than_cores_are_warned_of(loader_class, dataset):
    with pytest.warns(
        UserWarning, match=r"^This DataLoader will create 1000 worker processes in total\. Our suggested"
    ):
        loader_class(dataset, num_workers=1000)


def test_the_arguments_can_be_read(loader_class):
    def collate(samples):
        return samples

    def init(worker_id):
        pass

    generator = torch.Generator()
    given = {
        "batch_size": 4,
        "num_workers": 2,
        "collate_fn": collate,
        "pin_memory": False,
        "drop_last": True,
        "timeout": 3,
        "worker_init_fn": init,
        "generator": generator,
        "prefetch_factor": 5,
        "persistent_workers": True,
        "pin_memory_device": "",
        "in_order": False,
    }
    loader = loader_class(LETTERS, multiprocessing_context="spawn", **given)
    assert {name: getattr(loader, name) for name in given} == given
    assert loader.dataset is LETTERS
    assert loader.multiprocessing_context.get_start_method() == "spawn"


def test_what_was_left_open_can_be_read(loader_class):
    loader = loader_class(LETTERS, num_workers=0)
    assert (loader.batch_size, loader.drop_last, loader.timeout, loader.in_order) == (1, False, 0, True)
    assert (loader.prefetch_factor, loader.persistent_workers, loader.pin_memory) == (None, False, False)
    assert (loader.worker_init_fn, loader.multiprocessing_context, loader.generator) == (None, None, None)
    assert callable(loader.collate_fn)


@pytest.mark.parametrize("shuffle, kind", [(False, SequentialSampler), (True, RandomSampler)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_samplers_are_torchs(loader_class, shuffle, kind, drop_last):
    generator = torch.Generator()
    loader = loader_class(LETTERS, 4, shuffle=shuffle, drop_last=drop_last, num_workers=0, generator=generator)
    assert type(loader.sampler) is kind
    assert type(loader.batch_sampler) is BatchSampler
    assert loader.batch_sampler.sampler is loader.sampler
    assert (loader.batch_sampler.batch_size, loader.batch_sampler.drop_last) == (4, drop_last)
    assert list(loader.batch_sampler) != []
    if shuffle:
        assert loader.sampler.generator is generator


def test_a_sampler_that_was_given_can_be_read(loader_class):
    loader = loader_class(LETTERS, 4, sampler=SAMPLER, num_workers=0)
    assert loader.sampler is SAMPLER
    assert loader.batch_sampler.sampler is SAMPLER


@pytest.mark.parametrize("name", GUARDED)
def test_what_shapes_the_epoch_cannot_be_set_later(loader_class, name):
    loader = loader_class(LETTERS, num_workers=0)
    with pytest.raises(ValueError) as caught:
        setattr(loader, name, {})
    assert str(caught.value) == f"{name} attribute should not be set after {loader_class.__name__} is initialized"


def test_the_rest_can_be_set_later_and_counts_from_the_next_epoch(loader_class):
    loader = loader_class(list(range(4)), batch_size=2, num_workers=2, persistent_workers=False)
    loader.collate_fn = sum
    loader.num_workers = 0
    loader.note = "mine"
    assert list(loader) == [1, 5]
    loader.collate_fn = max
    assert list(loader) == [1, 3]
    assert loader.note == "mine"


def test_a_start_method_set_later_is_checked(loader_class):
    loader = loader_class(LETTERS, num_workers=1)
    with pytest.raises(ValueError, match=r"^multiprocessing_context option should specify a valid start method in"):
        loader.multiprocessing_context = "bad"
    loader.multiprocessing_context = "spawn"
    assert loader.multiprocessing_context.get_start_method() == "spawn"


def test_a_loader_is_a_data_loader(loader_class):
    loader = loader_class(LETTERS, num_workers=0)
    assert isinstance(loader, DataLoader)
    assert isinstance(loader, loader_class[int].__origin__)


def test_a_loader_can_be_subclassed(loader_class):
    kind = type("Mine", (Doubling, loader_class), {})
    loader = kind(list(range(3)), batch_size=2, num_workers=0)
    assert list(loader) == [[0, 2, "more"], [4, "more"]]
    assert (len(loader), loader.made_before, loader.note) == (102, True, "kept")
    with pytest.raises(ValueError, match=r"^dataset attribute should not be set after Mine is initialized$"):
        loader.dataset = []


@pytest.mark.parametrize("duplicate", [lambda loader: pickle.loads(pickle.dumps(loader)), copy.deepcopy])  # noqa: S301
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("dataset", [LETTERS, list(range(6))], ids=["TensorDataset", "map-style"])
def test_a_loader_can_be_pickled_and_copied(loader_class, duplicate, num_workers, dataset):
    def epoch(loader):
        torch.manual_seed(1)
        return [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in loader]

    loader = loader_class(dataset, 4, shuffle=True, num_workers=num_workers, persistent_workers=False)
    expected = epoch(loader)
    twin = duplicate(loader)
    assert type(twin) is loader_class
    assert (epoch(twin), epoch(loader)) == (expected, expected)
    assert (twin.batch_size, twin.num_workers, len(twin)) == (4, num_workers, 2)


def test_a_generator_is_pickled_with_its_state(loader_class):
    loader = loader_class(LETTERS, 6, shuffle=True, num_workers=0, generator=torch.Generator().manual_seed(4))
    twin = pickle.loads(pickle.dumps(loader))  # noqa: S301 made here
    assert [next(iter(loader))[0].tolist() for _ in range(3)] == [next(iter(twin))[0].tolist() for _ in range(3)]
