"""Options, parsed once into frozen Settings. Light to import: this runs in every pytest session."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_loaderperf.arguments import (
    count,
    device,
    file_path,
    not_a_file,
    not_a_page,
    not_writable,
    policy,
    probability,
    seconds,
    seconds_or_none,
)
from pytest_loaderperf.defaults import (
    DEFAULT_ALPHA,
    DEFAULT_BUDGET_SECONDS,
    DEFAULT_DEVICE,
    DEFAULT_DOCTOR_SECONDS,
    DEFAULT_KEPT_RESULTS,
    DEFAULT_MAX_BUDGET_SECONDS,
    DEFAULT_POLICY,
    DEFAULT_TIMEOUT_SECONDS,
    POLICIES,
)
from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable

if TYPE_CHECKING:
    from pytest_loaderperf.history.asv import AsvTarget

SKIP_REASON = "measures a loader: run with --loaderperf"
MARKER_KEYWORDS = ("base", "budget", "device", "inconclusive", "max_budget", "silent", "timeout")
_DEFAULTS = {
    "budget": DEFAULT_BUDGET_SECONDS,
    "max_budget": DEFAULT_MAX_BUDGET_SECONDS,
    "alpha": DEFAULT_ALPHA,
    "device": DEFAULT_DEVICE,
    "inconclusive": DEFAULT_POLICY,
    "timeout": DEFAULT_TIMEOUT_SECONDS,
    "doctor": DEFAULT_DOCTOR_SECONDS,
}


_TYPES: dict[str, Callable[[str], Any]] = {
    "budget": seconds,
    "max_budget": seconds,
    "alpha": probability,
    "device": device,
    "inconclusive": policy,
    "timeout": seconds,
    "doctor": seconds_or_none,
}


class Settings(NamedTuple):
    """What the user set for the whole run. Times are in seconds; ``alpha`` is shared by all claims.

    ``keep``: so many results are kept in the store of the folder ``root``; 0: none is added.
    """

    measuring: bool
    budget_seconds: float
    alpha: float
    device: str
    timeout_seconds: float
    base: str | None
    json_path: Path | None
    max_budget_seconds: float = DEFAULT_MAX_BUDGET_SECONDS
    inconclusive: str = DEFAULT_POLICY
    doctor_seconds: float = DEFAULT_DOCTOR_SECONDS
    html_path: Path | None = None
    asv: AsvTarget | None = None
    keep: int = DEFAULT_KEPT_RESULTS
    root: Path = Path()


SETTINGS = pytest.StashKey[Settings]()
ENVIRONMENT = pytest.StashKey[Mapping[str, str]]()  # of pytest's start


def measures(item: pytest.Item) -> bool:
    """Whether a test measures loaders."""
    return "loaderperf" in getattr(item, "fixturenames", ())


def add_options(parser: pytest.Parser) -> None:
    """Register the command-line options and ini keys."""
    group = parser.getgroup("loaderperf", "measuring data loaders (pytest-loaderperf)")
    group.addoption("--loaderperf", action="store_true", help="measure; without it the tests that measure are skipped")
    options: tuple[tuple[str, str, str], ...] = (
        ("budget", "SECONDS", "the most a claim may spend measuring"),
        ("max_budget", "SECONDS", "the same, for a claim whose 95%% interval does not contain the threshold"),
        ("alpha", "P", "false-alarm budget of the whole run, shared by all its claims"),
        ("device", "cpu|cuda|auto", "where batches must arrive"),
        ("inconclusive", "|".join(POLICIES), "what an undecided claim does to its test"),
    )
    for name, metavar, text in options:
        described = f"{text} (default {_DEFAULTS[name]})"
        group.addoption(_option(name), metavar=metavar, type=_TYPES[name], default=None, help=described)
        parser.addini(f"loaderperf_{name}", described.replace("%%", "%"), default=None)
    parser.addini(
        "loaderperf_timeout",
        f"seconds without a batch after which a loader counts as hung (default {_DEFAULTS['timeout']})",
        default=None,
    )
    parser.addini(
        "loaderperf_doctor",
        "seconds for each pass of the doctor over a loader that failed a claim, to say why; 0: it is not asked "
        f"(default {_DEFAULTS['doctor']})",
        default=None,
    )
    parser.addini(
        "loaderperf_history",
        "how many results .loaderperf/history.sqlite3 keeps, the newest; off: this run is not added "
        f"(default {DEFAULT_KEPT_RESULTS})",
        default=None,
    )
    group.addoption(
        "--loaderperf-base", metavar="REF", default=None, help="the commit, branch or tag to compare with: run.base"
    )
    group.addoption("--loaderperf-json", metavar="FILE", type=file_path, default=None, help="write the result to FILE")
    group.addoption(
        "--loaderperf-html", metavar="FILE", type=file_path, default=None, help="write the result as a page to look at"
    )
    group.addoption(
        "--loaderperf-asv",
        metavar="DIR",
        type=file_path,
        default=None,
        help="add the metrics to the results of asv in DIR, as those of this commit",
    )
    parser.addini(
        "loaderperf_asv_dirty", "write results for asv also if files differ from the commit", type="bool", default=False
    )


def read_settings(config: pytest.Config) -> Settings:
    """Settings from the command line, else the ini file, else the defaults. Raises pytest.UsageError for bad values."""
    given = {name: _given(config, name) for name in _TYPES}
    values: dict[str, Any] = _DEFAULTS | {name: value for name, value in given.items() if value is not None}
    values["max_budget"] = _max_budget(values["budget"], given["max_budget"])
    json_path, html_path = (_path(config, option) for option in ("--loaderperf-json", "--loaderperf-html"))
    settings = Settings(
        measuring=config.getoption("--loaderperf"),
        budget_seconds=values["budget"],
        alpha=values["alpha"],
        device=values["device"],
        timeout_seconds=values["timeout"],
        base=config.getoption("--loaderperf-base"),
        json_path=json_path,
        max_budget_seconds=values["max_budget"],
        inconclusive=values["inconclusive"],
        doctor_seconds=values["doctor"],
        html_path=html_path,
        keep=_keep(config),
        root=config.rootpath,
    )
    if settings.measuring:
        _check_file("--loaderperf-json", json_path, not_a_file)
        _check_file("--loaderperf-html", html_path, not_a_page)
        if html_path is not None and json_path is not None and html_path.resolve() == json_path.resolve():
            raise pytest.UsageError(
                "--loaderperf-html: expected another file than that of --loaderperf-json, got the same"
            )
        _check_alone(config)
        settings = settings._replace(asv=_asv(config))
    return settings


def _option(name: str) -> str:
    return f"--loaderperf-{name.replace('_', '-')}"


def _given(config: pytest.Config, name: str) -> Any:
    """The value from the command line, else the ini file; None if neither has one."""
    given = config.getoption(_option(name), None)
    if given is None and (text := config.getini(f"loaderperf_{name}")) not in (None, ""):
        try:
            return _TYPES[name](text)
        except argparse.ArgumentTypeError as error:
            raise pytest.UsageError(f"ini key loaderperf_{name}: {error}") from None
    return given


def _max_budget(budget: float, given: float | None) -> float:
    """The default grows with the budget; a given one must be at least as large."""
    if given is not None and given < budget:
        raise pytest.UsageError(
            f"--loaderperf-max-budget (ini key loaderperf_max_budget): expected at least the budget of {budget:g} s, "
            f"got {given:g} s. Raise it, or lower --loaderperf-budget."
        )
    return max(budget, DEFAULT_MAX_BUDGET_SECONDS) if given is None else given


def _path(config: pytest.Config, option: str) -> Path | None:
    path = config.getoption(option)
    return None if path is None else config.invocation_params.dir / path


def _keep(config: pytest.Config) -> int:
    """How many results to keep; 0 for off."""
    text = config.getini("loaderperf_history")
    if text in (None, ""):
        return DEFAULT_KEPT_RESULTS
    try:
        return 0 if text == "off" else count(text)
    except argparse.ArgumentTypeError:
        raise pytest.UsageError(
            f"ini key loaderperf_history: expected off or the number of results to keep, got {text!r}"
        ) from None


def _check_file(option: str, path: Path | None, problem_of: Callable[[Path], str | None]) -> None:
    if path is None:
        return
    if problem := problem_of(path):
        raise pytest.UsageError(f"{option}: {problem}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = printable(f"cannot make the folder of {path}: {error}", MOST_OF_PATH)
        raise pytest.UsageError(f"{option}: {problem}") from None
    if not os.access(path.parent, os.W_OK):
        raise pytest.UsageError(f"{option}: {not_writable(path)}")


def _asv(config: pytest.Config) -> AsvTarget | None:
    given = config.getoption("--loaderperf-asv")
    if given is None or hasattr(config, "workerinput"):  # a worker of xdist sends what it measured
        return None
    from pytest_loaderperf.history.asv import asv_target

    root = config.invocation_params.dir
    try:
        return asv_target(root / given, root, dirty_ok=config.getini("loaderperf_asv_dirty"))
    except ResultError as error:
        raise pytest.UsageError(f"--loaderperf-asv: {error}") from None


def _check_alone(config: pytest.Config) -> None:
    workers = sum(_workers(spec) for spec in getattr(config.option, "tx", None) or [])
    if workers > 1 and not hasattr(config, "workerinput"):
        raise pytest.UsageError(
            f"--loaderperf measures one loader at a time, but pytest-xdist has {workers} workers: tests that "
            "run in parallel would disturb each other's timing. Measure with -n 0, in a separate run."
        )


def _workers(spec: str) -> int:
    """Number of workers in one execution spec of xdist: ``2*popen`` is two."""
    count, times, _ = spec.partition("*")
    return int(count) if times and count.isdigit() else 1
