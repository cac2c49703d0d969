"""Measuring outside pytest, in a script or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_loaderperf.defaults import (
    DEFAULT_BUDGET_SECONDS,
    DEFAULT_DEVICE,
    DEFAULT_MAX_BUDGET_SECONDS,
    DEFAULT_POLICY,
    DEFAULT_TIMEOUT_SECONDS,
)
from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.ranks.job import own_link
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from pytest_loaderperf.remote.naming import import_name
from pytest_loaderperf.runs.options import Options, max_budget_for
from pytest_loaderperf.runs.run import Run
from pytest_loaderperf.runs.sides import AGAINST, named
from pytest_loaderperf.units import Quantity, as_seconds, s


def measure(
    make_loader: object,
    against: object = None,
    budget: Quantity | float = DEFAULT_BUDGET_SECONDS * s,
    device: str = DEFAULT_DEVICE,
    *,
    max_budget: Quantity | float = DEFAULT_MAX_BUDGET_SECONDS * s,
    inconclusive: str = DEFAULT_POLICY,
    count: Callable[[Any], int] | None = None,
    touch: Callable[[Any], object] | None = None,
    dataset_nbytes: int | None = None,
    timeout: Quantity | float = DEFAULT_TIMEOUT_SECONDS * s,
    python: str | None = None,
) -> Run:
    """Measure outside pytest, in a script or a notebook; use the Run in a ``with`` block, or ``close()`` it.

    ``make_loader`` and ``against`` are factories, or loaders that can be iterated again; ``against`` may map names to
    them. A claim may take ``budget``, or ``max_budget`` if its 95 % interval does not contain its threshold by then. An
    undecided claim is true if ``inconclusive`` is "pass", and false if that is "fail", or "leaning" and the interval is
    on the wrong side of the threshold. ``timeout`` is the longest time without a batch.
    ``count`` gives the samples of a batch, ``dataset_nbytes`` the bytes of the dataset, if they cannot be seen.
    ``touch`` reads a batch, if the work is done only then; it is timed with the batch, but not on the roofline.
    ``python`` is an interpreter, this or another, that runs each loader of ``against`` in its own process. Then
    ``against``, ``count`` and ``touch`` must be functions that it can import, or their names ``"module:function"``.

    Raises LoaderError, ClaimError or MeasureError, which say what was expected, what it got, and what to do.
    """
    budget_seconds = as_seconds(budget, "budget", "10 * s", bare=True)
    max_seconds = as_seconds(max_budget, "max_budget", "60 * s", bare=True)
    timeout_seconds = as_seconds(timeout, "timeout", "60 * s", bare=True)
    options = Options(
        budget_seconds=budget_seconds,
        max_budget_seconds=max_budget_for(budget_seconds, max_seconds, "max_budget"),
        inconclusive=inconclusive,
        device=device,
        timeout_seconds=timeout_seconds,
        link=own_link(timeout_seconds),
    )
    if options.link is not None:
        options.link.begin("measure()")
    reading = Reading(count, touch)
    if python is not None:
        specs = {name: import_name(source) for name, source in named(against).items()}
        others = {
            name: OtherInterpreter(spec, python, reading=reading, **options.there) for name, spec in specs.items()
        }
        against = others if isinstance(against, Mapping) else others.get(AGAINST)
    return Run(make_loader, against, options=options, reading=reading, dataset_nbytes=dataset_nbytes)
