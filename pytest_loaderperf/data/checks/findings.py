"""What a check found, in bounded memory, and how threads share its work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.errors import MOST_OF_PATH, printable

T = TypeVar("T")
R = TypeVar("R")
MAX_ERRORS = 10  # enough to find and fix the cause
_AHEAD = 2  # items for each thread that are started before an earlier one is done: keeps all threads busy


@dataclass(frozen=True, slots=True)
class Expected:
    """What to look for, and how: see `check`."""

    shape: tuple[int, ...] | None
    dtype: str | None
    classes: int | None
    workers: int | None
    stop: bool
    progress: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Problem:
    """``what`` is wrong, in which file, and if known in which row (from 0) and field."""

    file: str
    row: int | None
    field: str | None
    what: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of ``path`` found. ``kind`` is ``images`` or the name of the table's format.

    ``checked`` of ``total`` images or rows were read, with ``found`` problems; ``problems`` are the first of them.
    ``stopped_early``: there were so many that the rest was not read. ``shape`` and ``dtype`` are the expected ones, if
    any.
    """

    path: str
    kind: str
    total: int
    checked: int
    found: int
    problems: tuple[Problem, ...]
    stopped_early: bool
    shape: tuple[int, ...] | None
    dtype: str | None

    @property
    def good(self) -> bool:
        """Whether no problem was found."""
        return self.found == 0

    def document(self) -> dict[str, Any]:
        """The result as JSON keeps it: these fields, ``good``, and a schema."""
        shown = asdict(self) | {"path": printable(self.path, MOST_OF_PATH)}
        for problem in shown["problems"]:
            texts = {key: text for key, text in problem.items() if isinstance(text, str)}
            problem |= {key: printable(text, MOST_OF_PATH) for key, text in texts.items()}
        return {"schema": "loaderperf-check/1", "good": self.good} | shown


@dataclass(slots=True)
class Findings:
    """Problems in the order they are found: the first ``most`` are kept, all are counted."""

    most: int
    found: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, problems: Sequence[Problem], found: int | None = None) -> None:
        """Note ``problems``, which are the first of ``found``."""
        self.problems += problems[: max(0, self.most - len(self.problems))]
        self.found += len(problems) if found is None else found

    @property
    def full(self) -> bool:
        return self.found >= self.most


def inspected_in_order(items: Iterable[T], inspect: Callable[[T], R], workers: int | None) -> Generator[R, None, None]:
    """``inspect(item)`` for each, on ``workers`` threads (None: min(4, cores)), results in the order of ``items``.

    Closing the iterator starts no further item, and waits for those that were started. An error of ``items`` itself
    is raised after the results of earlier items.
    """
    with PersistentExecutor(workers) as executor:
        waiting: deque[Future[R]] = deque()
        failed: Exception | None = None
        source = iter(items)
        while failed is None:
            try:
                waiting.append(executor.submit(inspect, next(source)))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 raised below
                failed = error
            if len(waiting) >= _AHEAD * executor.max_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failed is not None:
            raise failed
