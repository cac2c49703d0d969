"""How far an epoch has been delivered, who counts that, and the indices that are still to come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from typing import Any, Self

from pytest_loaderperf.data.arrays.columns import Order
from pytest_loaderperf.data.arrays.order import Draw, as_list, joined, known_order, shuffled_samples, with_epochs
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.states import State

_FOLDED = 1024  # indices after which those delivered are folded into a checksum: their memory stays small
_UNDELIVERED = 16  # batches that may be on their way to a GPU after an engine counted them, with room to spare


class Trail:
    """What a sampler gave in an epoch, as a checksum at any index from the latest delivered one on.

    ``expected``: the checksum of the indices that a restart passes over; the sampler must give them again.
    ``samples``: how many, of all ranks, a shuffled order has that is known at once, None for others.
    ``total``: the batches of the epoch, None where that is not known yet. ``feed``: one begun before it was asked for.
    """

    def __init__(
        self, expected: int | None = None, samples: int | None = None, sampler_epoch: int | None = None
    ) -> None:
        self.expected, self.samples, self.sampler_epoch = expected, samples, sampler_epoch
        self.total: int | None = None
        self.feed: Feed | None = None
        self.begun = self._noted = self._checked = False
        self._folded = self._checksum = 0
        self._rest: deque[Any] = deque()

    def note(self, index: Any, delivered: int) -> None:
        """Record the next index, when those before number ``delivered`` will not be asked for any more."""
        self._noted = True
        self._rest.append(index)
        if len(self._rest) > _FOLDED:
            while self._folded < delivered and self._rest:
                self._checksum = joined(self._checksum, self._rest.popleft())
                self._folded += 1

    def checksum(self, position: int) -> int | None:
        """Of the first ``position`` indices, or of all where there are fewer; until they came again, as expected.

        None where no index was noted.
        """
        if not self._checked and (self.expected is not None or not self._noted):
            return self.expected
        checksum = self._checksum
        for index in islice(self._rest, max(0, position - self._folded)):
            checksum = joined(checksum, index)
        return checksum

    def check(self, position: int) -> None:
        """Raise DataError unless the first ``position`` indices are those of before the restart."""
        self._checked = True
        if self.checksum(position) != self.expected:
            raise DataError(
                f"expected the sampler to give the same first {position} indices as before the restart, got others. "
                "Give it a generator or a seed of its own, or the loader seed=; where it has set_epoch(), call that "
                "with the epoch of the state; the dataset, and the rank of a DistributedSampler, must be the same."
            )


@dataclass(slots=True)
class Progress:
    """One epoch: ``batches`` delivered of it, ``skipped`` samples left out before them; ``done`` at its end.

    ``dealt``: how many samples of its order other ranks, or batches of another size, were given before that.
    ``began``: how the sampler's generator, if it has one, stood before the epoch; ``draw``: what came of it.
    ``draws_seed``: whether a base seed for workers is still to be drawn before the order, as torch does.
    ``states``: by worker, that of the dataset after its latest batch; 0 is the consumer's thread, too. ``lasting``:
    those that workers which persist began with, which hold for each until its first batch; None: unknown.
    """

    epoch: int
    batches: int = 0
    skipped: int = 0
    dealt: int = 0
    done: bool = False
    draw: Draw = field(default_factory=Draw)
    began: Draw = field(default_factory=Draw)
    trail: Trail = field(default_factory=Trail)
    draws_seed: bool = True
    states: Mapping[int, State] = field(default_factory=dict)
    lasting: Mapping[int, State] | None = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether all batches of the epoch were delivered, as far as is known without asking for another one."""
        return self.done or (self.trail.total is not None and self.batches >= self.trail.total)

    @property
    def all_states(self) -> dict[int, State]:
        """By worker, those that are known."""
        return {**(self.lasting or {}), **self.states}

    def note(self, state: State | None) -> None:
        """Keep the ``state`` of a dataset in the consumer's process, if it has one."""
        if state is not None:
            self.states = {0: state}

    def position(self, batch_size: int | None) -> int:
        """How many indices of the sampler went into what was delivered, beyond those ``dealt`` before."""
        return self.batches * batch_size + self.skipped if batch_size else self.batches


class Feed:
    """The indices of an epoch from where ``progress`` stands: all in ``order`` where the sampler tells them beforehand.

    ``sampler`` gives single indices, ``batch_size`` of which make a batch; None: it gives all that belongs together.
    Made when the first batch is asked for: only then do torch's samplers draw from their generators. Raises DataError
    where it gives other indices than before a restart.
    """

    def __init__(self, sampler: Any, batch_size: int | None, progress: Progress, *, drop_last: bool) -> None:
        self.batch_size = batch_size
        self._drop_last, self._progress = drop_last, progress
        self._skip = progress.position(batch_size)
        self.order: Order | None = None
        trail = progress.trail
        trail.begun = True
        if (counting := with_epochs(sampler)) is not None:
            trail.sampler_epoch = counting.epoch
        if (order := known_order(sampler, progress.epoch, progress.draw, progress.dealt)) is not None:
            self._check_length(shuffled_samples(sampler))
            whole = len(order) // batch_size * batch_size if batch_size is not None and drop_last else len(order)
            self.order = order[self._skip : whole]
            trail.total = -(-whole // (batch_size or 1))
        else:
            if progress.dealt:
                trail.check(progress.dealt)  # raises, for those were not of this sampler
            self._indices = self._noted(progress.draw.indices(sampler, batches=batch_size is None))

    def _check_length(self, samples: int | None) -> None:
        trail = self._progress.trail
        if (self._skip or self._progress.dealt) and (trail.samples != samples or trail.expected is not None):
            raise DataError(
                f"expected a shuffled order of {trail.samples} indices as before the restart, got one of {samples}: it "
                "would be another order. Restart with the same dataset, or begin a new epoch with set_epoch()."
            )
        trail.samples = samples

    def _noted(self, indices: Iterator[Any]) -> Iterator[Any]:
        trail, progress, size, skip = self._progress.trail, self._progress, self.batch_size, self._skip
        given = 0
        for given, index in enumerate(indices, 1):
            trail.note(index, progress.position(size) - _UNDELIVERED * (size or 1))
            if given == skip:
                trail.check(skip)
            if given > skip:
                yield index
        if given < skip:
            trail.check(skip)

    def begin(self) -> None:
        """Take the first index from the sampler, for which it draws what it draws."""
        if self.order is None:
            self._indices = chain(list(islice(self._indices, 1)), self._indices)

    def __iter__(self) -> Iterator[Any]:
        """Lists of ``batch_size`` indices, or whatever the sampler gives where that is None."""
        size, order = self.batch_size, self.order
        if order is not None:
            if size is None:
                return iter(as_list(order))
            return (as_list(order[start : start + size]) for start in range(0, len(order), size))
        indices = self._indices
        if size is None:
            return self._counted(indices)
        batches: Iterator[list[Any]] = iter(lambda: list(islice(indices, size)), [])
        return self._counted(takewhile(lambda batch: len(batch) == size, batches) if self._drop_last else batches)

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        total = self._progress.batches
        for batch in batches:
            total += 1
            yield batch
        self._progress.trail.total = total


class Counted:
    """The batches of ``made``, counted in ``progress``. After an exception the next one can be had, as torch allows.

    One that raised counts once the next is asked for: until then a restart would try it again.
    """

    def __init__(self, made: Any, progress: Progress) -> None:
        self._made, self.progress = made, progress
        self._failed = self.closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self.progress.batches += self._failed
        self._failed = True
        try:
            batch = self._next()
        except StopIteration:
            self._failed = False
            self.progress.done |= not self.closed
            self.close()
            raise
        except BaseException as error:
            # After an interrupt or a timeout the same batch is still to come.
            self._failed = isinstance(error, Exception) and not str(error).startswith("DataLoader timed out")
            raise
        self._failed = False
        self.progress.batches += 1
        return batch

    def _next(self) -> Any:
        return next(self._made)

    def close(self) -> None:
        """Let go of what was made ahead, and wait for what is being made. May be called twice."""
        made, self._made, self.closed = self._made, iter(()), True
        if hasattr(made, "close"):
            made.close()
