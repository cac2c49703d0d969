"""What goes wrong in a dataset, in a worker or by the clock, and how it reaches the consumer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest
import torch
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pytest_loaderperf import ReferenceLoader
from tests.torch_versions import newer_torch

PATIENCE_S = 60  # far beyond what a busy machine needs; only a failure waits so long
FORK = multiprocessing.get_context("fork")  # shares what blocks a worker or counts in it
with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])


class Doing(Dataset):
    """Does ``act`` for sample 1, the first of the second worker, and gives the index of every other one."""

    def __init__(self, act, samples=6):
        self.act = act
        self.samples = samples
        self.consumer = os.getpid()

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        if index == 1:
            self.act()
        return index

    def in_a_worker_only(self):
        """The test run itself must survive a loader that has no worker processes."""
        assert os.getpid() != self.consumer, "the sample is fetched in the consumer's process"


class TwoArgumentsError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class MessageError(Exception):
    message = "none yet"

    def __init__(self, code=0, message=None):
        super().__init__(code)
        self.message = message


class NumberError(Exception):
    def __init__(self, number):
        super().__init__(f"number {int(number)}")


def raising(error):
    def act():
        raise error

    return act


def texts(error):
    """Of the error and its cause: which of the two has the details depends on where the signal finds the consumer."""
    return str(error), str(error.__cause__)


def run_through(loader, fetched, errors):
    """Iterate to the end, past every error."""
    iterator = iter(loader)
    while True:
        try:
            fetched.append(next(iterator).item())
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 the test says which it should be
            errors.append(error.with_traceback(None))


ERRORS = [
    ValueError("a bad value"),
    KeyError("missing"),
    IndexError("too far"),
    NotImplementedError(),
    OSError(2, "gone"),
    TwoArgumentsError(1, 2),
    NumberError(5),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_without_workers_an_error_comes_out_itself(loader_class, raised, error):
    assert raised(lambda: list(loader_class(Doing(raising(error)), num_workers=0))) is error


@pytest.mark.parametrize("error", ERRORS[:5], ids=lambda error: type(error).__name__)
def test_a_workers_error_keeps_its_type_and_says_where_it_was(loader_class, raised, error):
    error = type(error)(*error.args)  # without the notes of other tests
    loader = loader_class(Doing(raising(error)), num_workers=2, persistent_workers=False)
    came = raised(lambda: list(loader))
    assert type(came) is type(error)
    text = str(came)
    kind = type(error).__name__
    assert text.startswith(
        f"Caught {kind} in DataLoader worker process 1.\nOriginal Traceback (most recent call last):"
    )
    assert "in __getitem__\n" in text
    lines = text.rstrip().splitlines()
    if loader_class is ReferenceLoader:
        assert lines.pop() == "raised in stage fetch, for sample 1"
    assert lines[-1] == (f"{kind}: {error}" if str(error) else kind)


def test_a_workers_key_error_is_shown_with_its_line_breaks(loader_class, raised):
    """str() of a KeyError is the repr of its argument, which would print them as \\n."""
    error = raised(lambda: list(loader_class(Doing(raising(KeyError("k"))), num_workers=2, persistent_workers=False)))
    assert type(error.args[0]).__name__ == "KeyErrorMessage"
    assert isinstance(error.args[0], str)
    assert str(error) == error.args[0]
    assert "\n" in str(error)


@newer_torch
@pytest.mark.parametrize("error", ERRORS[5:], ids=lambda error: type(error).__name__)
def test_an_error_that_cannot_be_made_from_a_text_comes_as_a_runtime_error(loader_class, raised, error):
    came = raised(lambda: list(loader_class(Doing(raising(error)), num_workers=2, persistent_workers=False)))
    assert type(came) is RuntimeError
    assert str(came).startswith(f"Caught {type(error).__name__} in DataLoader worker process 1.\n")
    assert str(error) in str(came)


def test_an_error_with_a_message_attribute_gets_the_text_there(loader_class, raised):
    came = raised(lambda: list(loader_class(Doing(raising(MessageError(3))), num_workers=2, persistent_workers=False)))
    assert type(came) is MessageError
    assert came.message.startswith("Caught MessageError in DataLoader worker process 1.\n")


@with_and_without_workers
def test_the_iteration_may_go_on_after_an_error(loader_class, num_workers):
    fetched, errors = [], []
    loader = loader_class(Doing(raising(ValueError("a bad value"))), num_workers=num_workers, persistent_workers=False)
    run_through(loader, fetched, errors)
    assert fetched == [0, 2, 3, 4, 5]
    assert [type(error) for error in errors] == [ValueError]


@with_and_without_workers
def test_every_bad_batch_raises(loader_class, num_workers):
    class Abstract(Dataset):
        def __len__(self):
            return 5

    fetched, errors = [], []
    loader = loader_class(Abstract(), batch_size=2, shuffle=True, num_workers=num_workers, persistent_workers=False)
    run_through(loader, fetched, errors)
    assert fetched == []
    assert [type(error) for error in errors] == [NotImplementedError] * 3


@with_and_without_workers
def test_an_error_of_collate_fn_comes_out(loader_class, raised, num_workers):
    def refuse(samples):
        raise LookupError(f"cannot collate {samples}")

    loader = loader_class([7], num_workers=num_workers, collate_fn=refuse, persistent_workers=False)
    error = raised(lambda: list(loader))
    assert type(error) is LookupError
    assert "cannot collate [7]" in str(error)


def test_an_error_of_worker_init_fn_comes_out(loader_class, raised):
    def refuse(worker_id):
        raise LookupError(f"worker {worker_id} will not start")

    loader = loader_class([7, 8], num_workers=2, worker_init_fn=refuse, persistent_workers=False)
    error = raised(lambda: list(loader))
    assert type(error) is LookupError
    assert str(error).startswith("Caught LookupError in DataLoader worker process 0.\n")
    assert "worker 0 will not start" in str(error)


def test_a_worker_that_is_killed_raises_and_is_named(loader_class, raised, children):
    pid = FORK.Value("i", 0)

    def act():
        dataset.in_a_worker_only()
        pid.value = os.getpid()
        os.kill(os.getpid(), signal.SIGKILL)

    dataset = Doing(act, samples=50)
    error = raised(lambda: list(loader_class(dataset, num_workers=2, persistent_workers=False)))
    assert type(error) is RuntimeError
    by_signal = f"DataLoader worker (pid {pid.value}) is killed by signal: Killed. "
    assert by_signal in texts(error) or f"DataLoader worker (pid(s) {pid.value}) exited unexpectedly" in texts(error)
    assert children.end(children.started())


def test_the_epoch_after_a_killed_worker_is_whole(loader_class, raised, children):
    """Of workers that persist by our own choice, too."""
    killed = FORK.Value("i", 0)

    def act():
        dataset.in_a_worker_only()
        if not killed.value:
            killed.value = 1
            os.kill(os.getpid(), signal.SIGKILL)

    dataset = Doing(act, samples=50)
    loader = loader_class(dataset, num_workers=2)
    raised(lambda: list(loader))
    assert killed.value == 1
    assert len(list(loader)) == 50
    if loader_class is ReferenceLoader:
        loader.close()
    assert children.end(children.started())


@pytest.mark.parametrize("leave", [os._exit, sys.exit], ids=["os._exit", "sys.exit"])
def test_a_worker_that_exits_raises_and_is_named(loader_class, raised, children, leave):
    pid = FORK.Value("i", 0)

    def act():
        dataset.in_a_worker_only()
        pid.value = os.getpid()
        leave(7)

    dataset = Doing(act, samples=50)
    error = raised(lambda: list(loader_class(dataset, num_workers=2, persistent_workers=False)))
    assert type(error) is RuntimeError
    by_signal = (
        f"DataLoader worker (pid {pid.value}) exited unexpectedly with exit code 7. Details are lost due to "
        "multiprocessing. Rerunning with num_workers=0 may give better error trace."
    )
    assert by_signal in texts(error) or f"DataLoader worker (pid(s) {pid.value}) exited unexpectedly" in texts(error)
    assert children.end(children.started())


def test_a_worker_that_exits_without_a_word_is_noticed(loader_class, raised, monkeypatch):
    """With status 0 there is no signal to see: torch looks every five seconds, here twice a second."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))
    pid = FORK.Value("i", 0)

    def act():
        dataset.in_a_worker_only()
        pid.value = os.getpid()
        os._exit(0)

    dataset = Doing(act, samples=50)
    error = raised(lambda: list(loader_class(dataset, num_workers=2, persistent_workers=False)))
    assert type(error) is RuntimeError
    assert str(error) == f"DataLoader worker (pid(s) {pid.value}) exited unexpectedly"


@pytest.mark.parametrize("timeout", [0.2, 1])
def test_a_batch_that_takes_longer_than_the_timeout_raises(loader_class, raised, timeout):
    given_up = FORK.Event()
    loader = loader_class(
        Doing(lambda: given_up.wait(PATIENCE_S)), num_workers=2, timeout=timeout, persistent_workers=False
    )

    def consume():
        try:
            list(loader)
        finally:
            given_up.set()

    error = raised(consume)
    assert type(error) is RuntimeError
    assert str(error) == f"DataLoader timed out after {timeout} seconds"


def test_a_timeout_that_is_not_reached_changes_nothing(loader_class):
    loader = loader_class(list(range(6)), batch_size=4, num_workers=2, timeout=PATIENCE_S)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


def test_a_timeout_without_workers_is_refused_when_iterated(loader_class, raised):
    loader = loader_class([1, 2], timeout=1, num_workers=0)
    error = raised(lambda: iter(loader))
    assert type(error) is AssertionError
    assert str(error) == "_SingleProcessDataLoaderIter requires timeout == 0"


@with_and_without_workers
def test_the_next_epoch_is_whole_after_one_that_failed(loader_class, raised, num_workers):
    failing = FORK.Event()
    failing.set()

    def act():
        if failing.is_set():
            raise ValueError("not yet")

    loader = loader_class(Doing(act), batch_size=2, num_workers=num_workers, persistent_workers=False)
    assert type(raised(lambda: list(loader))) is ValueError
    failing.clear()
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_persistent_workers_survive_an_error(loader_class):
    failing = FORK.Event()
    failing.set()

    class Pids(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            if failing.is_set():
                raise ValueError("not yet")
            return torch.tensor([get_worker_info().id, os.getpid()])

    loader = loader_class(Pids(), num_workers=2, persistent_workers=True)
    fetched, errors = [], []
    run_through(loader, fetched, errors)
    assert (len(fetched), len(errors)) == (0, 4)
    failing.clear()
    first, second = ([tuple(batch[0].tolist()) for batch in loader] for _ in range(2))
    assert [worker for worker, _ in first] == [0, 1, 0, 1]
    assert first == second
