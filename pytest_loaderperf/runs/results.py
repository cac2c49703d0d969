"""A run as a document: what the table and the result file show."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable
from pytest_loaderperf.measurement import Key
from pytest_loaderperf.measurement.factory import describe
from pytest_loaderperf.report import run_document, write_json
from pytest_loaderperf.report.document import metric_entry
from pytest_loaderperf.runs.batches import batches_entry, made_by, trials_by_side
from pytest_loaderperf.runs.metric import DEFINITIONS, Estimate
from pytest_loaderperf.runs.notes import notes_of
from pytest_loaderperf.runs.ranked import SKEW, skews_of
from pytest_loaderperf.runs.run import Run
from pytest_loaderperf.runs.sides import AGAINST, BASE, LOADER, ROOFLINE
from pytest_loaderperf.units import ONE


def document_of(run: Run, *, asks_loaders: bool = True) -> dict[str, Any]:
    """The run's entry in the result file, from what has been measured so far; measures nothing more.

    Without ``asks_loaders``, none of the loaders' code runs: they are described by their types, without notes.
    """
    rounds = run.rounds
    trials = trials_by_side(rounds.done)
    unit_side = next((name for name, side in rounds.sides.items() if _is_plain_dataloader(side.loader)), None)
    sides: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": getattr(side, "loader_kind", type(side.loader).__name__),
            "loader": describe(side.loader) if asks_loaders else type(side.loader).__name__,
            "rebuilt": side.rebuildable,
            **(made_by(side) if asks_loaders else {}),
            "metrics": _metrics(run, name, unit_side),
            "batches": None if name == ROOFLINE else batches_entry(trials.get(name, [])),
        }
        for name, side in rounds.sides.items()
    ]
    if AGAINST in rounds.sides:
        _put(sides[0]["metrics"], "against_ratio", run.ratio(LOADER, AGAINST), ONE)
    if BASE in rounds.sides:
        _put(sides[0]["metrics"], "base_ratio", run.ratio(LOADER, BASE), ONE)
    if run.ranks:
        skew = run.estimate(Key(LOADER, SKEW.kind), SKEW, measures=False)
        _put(sides[0]["metrics"], SKEW.name, skew, SKEW.unit)
    compared = {name: found.to_json() for name, found in run.known_comparisons().items()}
    return run_document(
        nodeid=run.name,
        sides=sides,
        batch_size=rounds.sides[LOADER].batch_samples,
        device=run.device,
        stages=run.stages,
        verdicts=run.verdicts,
        seconds=rounds.seconds,
        disturbed=run.disturbance(),
        notes=notes_of(run) if asks_loaders else [],
        inconclusive=run.options.inconclusive,
        findings=[finding.to_json() for finding in run.known_findings()],
        changes=compared.pop(BASE, None),
        differences=compared,
        unobserved=[dict(found._asdict()) for found in run.known_unobserved()],
        ranks=_ranks(run),
    )


def _is_plain_dataloader(loader: object) -> bool:
    """Torch's own DataLoader, one sample at a time and without workers: the unit of the table's ratios."""
    return type(loader) is DataLoader and loader.num_workers == 0 and not hasattr(loader.dataset, "__getitems__")


def _metrics(run: Run, name: str, unit_side: str | None) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for definition in DEFINITIONS.values():
        estimate = run.estimate(Key(name, definition.kind), definition, measures=False)
        _put(entries, definition.name, estimate, definition.unit)
    for metric in run.step_metrics(name):
        _put(entries, metric.definition.name, run.estimate(metric.key, metric.definition, measures=False), metric.unit)
    if ROOFLINE in run.rounds.sides and name != ROOFLINE:
        _put(entries, "roofline_fraction", run.ratio(name, ROOFLINE), ONE)
    if unit_side is not None:
        exactly = Estimate(1.0, 1.0, 1.0, 0)
        _put(entries, "dataloader_ratio", exactly if name == unit_side else run.ratio(name, unit_side), ONE)
    return entries


def _ranks(run: Run) -> list[dict[str, Any]]:
    """What each rank of a job got; its skew, if trials for that were measured."""
    entries: list[dict[str, Any]] = [
        {"rank": of.rank, "host": of.host, "metrics": _rank_metrics(run, of.rank)} for of in run.ranks
    ]
    if entries and (records := run.records(Key(LOADER, SKEW.kind))):
        for entry, skew in zip(entries, skews_of(records), strict=True):
            _put(entry["metrics"], SKEW.name, skew, SKEW.unit)
    return entries


def _rank_metrics(run: Run, rank: int) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for definition in [*DEFINITIONS.values(), *(metric.definition for metric in run.step_metrics(LOADER))]:
        estimate = run.rank_estimate(rank, Key(LOADER, definition.kind), definition)
        _put(entries, definition.name, estimate, definition.unit)
    return entries


def _put(entries: dict[str, Any], name: str, estimate: Estimate, unit: str) -> None:
    if not math.isnan(estimate.value):
        entries[name] = metric_entry(
            estimate.value, estimate.low, estimate.high, estimate.n, unit, samples=estimate.samples
        )


def write_result(document: dict[str, Any], file: Path) -> None:
    """Write ``document`` to ``file``, complete or absent. Raises LoaderPerfError if that is not possible."""
    try:
        write_json(document, file)
    except OSError as error:
        raise LoaderPerfError(f"cannot write {file}: {error}") from error


def head_commit() -> str | None:
    """The commit checked out here; None outside a git repository."""
    return _git_says("HEAD")


def repository_root() -> str | None:
    """The folder of the git repository around here, which names of files start with; None outside one."""
    root = _git_says("--show-toplevel")
    return None if root is None else printable(root, MOST_OF_PATH)


def _git_says(what: str) -> str | None:
    try:
        asked = subprocess.run(  # noqa: S603 our own command
            ["git", "rev-parse", what],  # noqa: S607 the git that the user has
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # as for file names
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip("\n")
