"""How far an epoch has been delivered, who counts that, and the indices that are still to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Self

from pytest_loaderperf.data.columns import Order
from pytest_loaderperf.data.order import Draw, as_list, generator_of, known_order


@dataclass(slots=True)
class Progress:
    """One epoch: ``batches`` delivered of it, ``skipped`` samples left out before them; ``done`` at its end.

    ``began``: how the sampler's generator, if it has one, stood before the epoch; ``draw``: what came of it.
    """

    epoch: int
    batches: int = 0
    skipped: int = 0
    done: bool = False
    draw: Draw = field(default_factory=Draw)
    began: Draw = field(default_factory=Draw)


class Feed:
    """The indices of an epoch from where ``progress`` stands: all in ``order`` where the sampler tells them beforehand.

    ``sampler`` gives single indices, ``batch_size`` of which make a batch; None: it gives all that belongs together.
    Made when the first batch is asked for: only then do torch's samplers draw from their generators.
    """

    def __init__(self, sampler: Any, batch_size: int | None, progress: Progress, *, drop_last: bool) -> None:
        self.batch_size = batch_size
        self._sampler, self._drop_last, self._draw = sampler, drop_last, progress.draw
        self._skip = progress.batches * (batch_size or 1) + (progress.skipped if batch_size else 0)
        self.order: Order | None = None
        if (order := known_order(sampler, progress.epoch, progress.draw)) is not None:
            whole = len(order) // batch_size * batch_size if batch_size is not None and drop_last else None
            self.order = order[self._skip : whole]

    def __iter__(self) -> Iterator[Any]:
        """Lists of ``batch_size`` indices, or whatever the sampler gives where that is None."""
        size, order = self.batch_size, self.order
        if order is not None:
            if size is None:
                return iter(as_list(order))
            return (as_list(order[start : start + size]) for start in range(0, len(order), size))
        if (generator := generator_of(self._sampler)) is not None:
            self._draw.repeat(generator)
        indices = islice(iter(self._sampler), self._skip, None)
        if size is None:
            return indices
        batches: Iterator[list[Any]] = iter(lambda: list(islice(indices, size)), [])
        return takewhile(lambda batch: len(batch) == size, batches) if self._drop_last else batches


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
