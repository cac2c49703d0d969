"""The fixtures that users request. Heavy imports wait until one of them is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.plugin.settings import MARKER_KEYWORDS, SETTINGS, SKIP_REASON

if TYPE_CHECKING:
    from pytest_loaderperf.data import PersistentExecutor, Workload
    from pytest_loaderperf.loader import ReferenceLoader
    from pytest_loaderperf.runs.run import Run

_TRIES = pytest.StashKey[Counter[str]]()  # of each test, by its node id


@pytest.fixture
def loaderperf(request: pytest.FixtureRequest) -> Iterator[Callable[..., Run]]:
    """``loaderperf(make_loader, against=None, count=None, touch=None, dataset_nbytes=None)`` measures a loader.

    ``loaderperf.growth(call, sizes=[100, 1_000, 10_000]).exponent`` says how the cost of ``call(n)`` grows.
    """
    if not request.config.stash[SETTINGS].measuring:
        pytest.skip(SKIP_REASON)  # requested by getfixturevalue
    from pytest_loaderperf.measurement import Reading
    from pytest_loaderperf.plugin.session import session_of
    from pytest_loaderperf.remote.naming import Call, call_name
    from pytest_loaderperf.runs.run import Run

    session = session_of(request.config)
    keywords = marker_keywords(request.node)
    base_ref = keywords.pop("base", None)
    runs: list[Run] = []
    names: list[str] = []
    tries = request.config.stash.setdefault(_TRIES, Counter())
    again = tries[request.node.nodeid]  # another plugin runs a failed test again
    tries[request.node.nodeid] += 1
    called = f"{request.node.nodeid} (rerun {again})" if again else request.node.nodeid

    def start(
        make_loader: object,
        against: object = None,
        *,
        count: Callable[[Any], int] | None = None,
        touch: Callable[[Any], object] | None = None,
        dataset_nbytes: int | None = None,
    ) -> Run:
        names.append(call_name(make_loader))
        make_base = partial(session.base_side, request.node, Call.last(names), base_ref)
        options = session.options(**keywords, make_base=make_base)
        reading = Reading(count, touch)
        if session.serve is not None:
            from pytest_loaderperf.runs.ranked import for_rank

            served: Run = session.serve(for_rank(make_loader), options, reading)
            return served
        with session.progress:
            name = called if not runs else f"{called} #{len(runs) + 1}"
            run = Run(make_loader, against, options=options, reading=reading, dataset_nbytes=dataset_nbytes, name=name)
        runs.append(run)
        session.places[name] = _place(request.node)
        if not session.is_follower:  # rank 0 reports
            session.open_runs.append(run)
        return run

    from pytest_loaderperf.diagnosis import growth

    start.growth = growth  # type: ignore[attr-defined]
    yield start
    for run in runs:
        run.close()


def _place(item: pytest.Item) -> dict[str, Any]:
    """File and line of a test, as its entry in the result file has them."""
    line = item.location[1]  # from 0
    return {"file": printable(item.path, MOST_OF_PATH), "line": None if line is None else line + 1}


def marker_keywords(node: pytest.Item) -> dict[str, Any]:
    """The keywords of ``@pytest.mark.loaderperf``; the closest marker wins. Fails the test for an unknown one."""
    keywords: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("loaderperf"))):
        unknown = sorted(set(marker.kwargs) - set(MARKER_KEYWORDS))
        if unknown or marker.args:
            got = ", ".join([*map(repr, marker.args), *unknown])
            pytest.fail(
                f"@pytest.mark.loaderperf takes the keywords {', '.join(MARKER_KEYWORDS)}, got {got}.",
                pytrace=False,
            )
        keywords |= marker.kwargs
    return keywords


@pytest.fixture
def reference_loader() -> Iterator[Callable[..., ReferenceLoader[Any]]]:
    """Factory for the reference optimized loader: ``reference_loader(dataset, batch_size=32, shuffle=True)``."""
    from pytest_loaderperf.loader import ReferenceLoader

    made: list[ReferenceLoader[Any]] = []

    def make(*args: Any, **kwargs: Any) -> ReferenceLoader[Any]:
        made.append(ReferenceLoader(*args, **kwargs))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


@pytest.fixture
def executor() -> Iterator[PersistentExecutor]:
    """A persistent executor, closed after the test."""
    from pytest_loaderperf.data import PersistentExecutor

    with PersistentExecutor() as made:
        yield made


@pytest.fixture
def workload() -> Callable[..., Workload]:
    """Synthetic-data factory: ``workload("images", samples=100)`` has arrays, a torch Dataset and the spec."""
    from pytest_loaderperf.data import workload as make

    return make


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Where batches must arrive: ``cpu`` or ``cuda``."""
    from pytest_loaderperf.measurement import resolve_device

    return resolve_device(request.config.stash[SETTINGS].device)
