"""A results directory of asv, read without asv."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from pytest_loaderperf.errors import ResultError, printable
from pytest_loaderperf.history.table import MOST_VALUE, Facts, Metric, Table, fingerprint
from pytest_loaderperf.units import BYTE, ONE, SECOND

_VERSION = 2  # of result files and benchmarks.json
_BENCHMARKS, _MACHINE = "benchmarks.json", "machine.json"
_UNITS = {"seconds": SECOND, "bytes": BYTE, "": ONE, None: ONE}
Content = dict[str, Any]


def is_asv(folder: Path) -> bool:
    """Whether this is a results directory of asv."""
    return (folder / _BENCHMARKS).is_file() or any(folder.glob(f"*/{_MACHINE}"))


def read_asv(folder: Path) -> Table:
    """All values of all machines. Values that asv itself would not show, of an older version of a benchmark, are left
    out with a remark. Raises ResultError if a file is damaged, or of another version of asv.
    """
    known = _read(folder / _BENCHMARKS) if (folder / _BENCHMARKS).is_file() else {}
    runs: list[Facts] = []
    values: dict[Metric, dict[int, float]] = {}
    outdated = set()
    for file in sorted(folder.glob("*/*.json")):
        if file.name == _MACHINE:
            continue
        content = _read(file)
        try:
            for name, version, cells in _rows(content, known):
                if version is not None and version != known.get(name, {}).get("version", version):
                    outdated.add(name)
                    continue
                for metric, value in cells:
                    values.setdefault(metric, {})[len(runs)] = value
            facts = _facts(content)
            if not facts.is_sound:
                raise ValueError(f"a date of {content['date']!r}")
            runs.append(facts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(
                f"{file}: expected a result file of asv in version {_VERSION}, got one without its usual content: "
                f"{type(error).__name__} {error}."
            ) from None
    if not runs:
        raise ResultError(f"{folder}: expected results of asv, got no result file. Measure first: asv run.")
    remarks = [f"asv's results of an older version were left out: {printable(', '.join(sorted(outdated)))}"]
    return Table(runs, values, tuple(remarks if outdated else []))


def _read(file: Path) -> Content:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ResultError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{file}: expected JSON of asv, got a file that is cut off or is not JSON: {error}") from None
    version = content.get("version") if isinstance(content, dict) else None
    got = "other JSON" if version is None else f"version {version}"
    if version != _VERSION:
        raise ResultError(
            f"{file}: expected a file of asv in version {_VERSION}, got {got}. Use asv 0.6, or remove the file."
        )
    return dict(content)


def _facts(content: Content) -> Facts:
    params, requirements = content["params"], content.get("requirements") or {}
    hardware = {key: value for key, value in params.items() if key != "python" and key not in requirements}
    date_s = float(content["date"]) / 1000
    driver = hardware.pop("driver", None)
    known = Facts(str(content["commit_hash"]), date_s, date_s, fingerprint(hardware), requirements.get("torch"), driver)
    others = {"Python": content.get("python")} | requirements | (content.get("env_vars") or {})
    packages = [f"{name} {value}".rstrip() for name, value in others.items() if name != "torch" and value is not None]
    return known._replace(packages=", ".join(packages))


def _rows(content: Content, known: Content) -> Iterator[tuple[str, str | None, list[tuple[Metric, float]]]]:
    """Of each benchmark its name, its version, and its values for all parameters."""
    for name, row in content["results"].items():
        cell = dict(zip(content["result_columns"], row, strict=False))
        unit = known.get(name, {}).get("unit", "")
        test, _, metric = name.rpartition(".")
        values, params = cell.get("result"), list(product(*(cell.get("params") or [])))
        if not isinstance(values, list):
            values = [values] * len(params)
        cells = [
            (
                Metric(f"{test}({', '.join(each)})" if each else test, metric, _UNITS.get(unit, str(unit)), asv=True),
                value,
            )
            for value, each in zip(values, params, strict=True)
            if isinstance(value, int | float) and abs(value) <= MOST_VALUE
        ]
        yield name, cell.get("version"), cells
