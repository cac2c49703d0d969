"""Settings that may suit this machine, each measured against the loader as it is, in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pytest_loaderperf.diagnosis.findings import Gain
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.passes.changes import Change
from pytest_loaderperf.diagnosis.passes.running import gain_of_change

_WORTH = 1.05  # times faster, from which it is advice


@dataclass(frozen=True, slots=True)
class Advice:
    """A constructor to write, and how many times faster it made the loader here. ``gain`` is None if it failed."""

    text: str
    gain: Gain | None

    @property
    def helps(self) -> bool:
        """Whether it was faster in every pair."""
        return self.gain is not None and self.gain.low >= _WORTH


def not_tried(ledger: Ledger) -> str:
    """Why no settings are tried, in words; "" if they are."""
    loader = ledger.loader
    if not loader.torch_like:
        return "settings: the loader is not a DataLoader of torch"
    if loader.iterable:
        return "settings: what a stream gives depends on its workers"
    if any(site.random_states and not site.in_workers for site in ledger.sites):
        return "settings: the dataset draws from a generator of its own, which workers would share"
    if loader.open_files and not loader.num_workers:
        return f"workers: the dataset keeps {loader.open_files} files open, which workers would share"
    return ""


def candidates(ledger: Ledger) -> Iterator[Change]:
    """Settings to try for a map-style dataset: workers that persist, none, and the reference loader."""
    loader = ledger.loader
    if loader.num_workers != ledger.cores:
        yield Change.of_settings({"num_workers": ledger.cores, "persistent_workers": True})
    if loader.num_workers:
        yield Change.of_settings({"num_workers": 0})
    yield Change.of_settings({"ReferenceLoader": True})


def call_of(ledger: Ledger, settings: dict[str, Any]) -> str:
    """The constructor to write."""
    name = "ReferenceLoader" if settings.get("ReferenceLoader") else "DataLoader"
    shown = {"batch_size": ledger.loader.batch_size, **settings}
    shown.pop("ReferenceLoader", None)
    if not settings.get("num_workers") and name == "DataLoader":
        shown = {"batch_size": ledger.loader.batch_size, "num_workers": 0}
    return f"{name}(dataset, {', '.join(f'{key}={value}' for key, value in shown.items())}, ...)"


def advise(
    source: object, ledger: Ledger, seconds: float, progress: Callable[[str], object], **how: Any
) -> tuple[Advice, ...]:
    """Each candidate, measured for its part of ``seconds``."""
    found = list(candidates(ledger))
    advice = []
    for change in found:
        text = call_of(ledger, change.settings)
        progress(f"trying {text}")
        measured = gain_of_change(source, change, seconds / len(found), **how)
        advice.append(
            Advice(text, None if measured is None else Gain(measured[1], measured[0], measured[2], "measured"))
        )
    return tuple(advice)
