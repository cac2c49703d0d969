"""What the processes of a pass saw, added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from statistics import median
from typing import Any

from pytest_loaderperf.diagnosis.ledger import EpochSeen, Event, Site, Stages, Value

Piece = Mapping[str, Any]
_SLOW = 3.0  # times the median, from which a batch is slow
_LARGEST = ("longest_ns", "paths", "holds", "distinct")  # of all processes; other numbers are added up
_ADDED = {part.name for part in fields(Site) if part.type == "int"} - {"line", "processes", *_LARGEST}


def sites_of(pieces: list[Piece]) -> tuple[Site, ...]:
    """The sites of all processes, added up by line and callee."""
    found: dict[tuple[Any, ...], Site] = {}
    for piece in pieces:
        for entry in piece["sites"]:
            site = Site(**{**entry, **{name: Value(**entry[name]) for name in ("argument", "largest", "result")}})
            site = replace(
                site, random_states=tuple(site.random_states), within=tuple(site.within), held=tuple(site.held)
            )
            at = (site.file, site.line, site.function, site.kind, site.callee)
            found[at] = _sum(found[at], site) if at in found else site
    return tuple(site for _, site in sorted(found.items()))


def _sum(one: Site, other: Site) -> Site:
    added = {name: getattr(one, name) + getattr(other, name) for name in _ADDED}
    larger = {
        name: max(getattr(one, name), getattr(other, name), key=_bytes) for name in ("argument", "largest", "result")
    }
    return replace(
        one,
        **added,
        **larger,
        **{name: max(getattr(one, name), getattr(other, name)) for name in _LARGEST},
        processes=one.processes + other.processes,
        random_states=(*one.random_states, *other.random_states),
        dtypes=tuple(sorted({*one.dtypes, *other.dtypes})),
        held=one.held or other.held,
        within=tuple(sorted({*one.within, *other.within})),
    )


def _bytes(value: Value) -> tuple[int, int]:
    return value.nbytes, value.items


def events_of(pieces: list[Piece]) -> tuple[Event, ...]:
    """The events of all processes, added up by line."""
    found: dict[tuple[Any, ...], Event] = {}
    for piece in pieces:
        for entry in piece["events"]:
            event = Event(**{**entry, "alive": tuple(entry["alive"])})
            at = (event.kind, event.file, event.line, event.function)
            if at in found:
                before = found[at]
                event = replace(
                    event,
                    count=event.count + before.count,
                    distinct=max(event.distinct, before.distinct),
                    in_workers=event.in_workers + before.in_workers,
                    in_start=event.in_start + before.in_start,
                    alive=max(event.alive, before.alive, key=len),
                )
            found[at] = event
    return tuple(event for _, event in sorted(found.items()))


def stages_of(main: Piece, pieces: list[Piece]) -> Stages:
    """Stages of the main process and its workers, and how their batches differ."""
    ns: dict[str, int] = {}
    for piece in [main, *pieces]:
        for stage, spent in piece["ns"].items():
            ns[stage] = ns.get(stage, 0) + spent
    by_worker: dict[str, int] = {}
    for piece in pieces:
        if piece["worker"] >= 0:
            by_worker[str(piece["worker"])] = by_worker.get(str(piece["worker"]), 0) + piece["samples"]
    slow = [ns for piece in pieces for ns in _slow_ns(piece["durations_ns"])]
    spent = sum(sum(piece["durations_ns"][1:]) for piece in pieces)
    return Stages(
        ns=ns,
        batches=main["batches"] + sum(piece["batches"] for piece in pieces),
        by_worker=by_worker,
        first_samples={str(piece["worker"]): piece["first_sample"] for piece in pieces if piece["worker"] >= 0},
        slow_batches=len(slow),
        slow_share=sum(slow) / spent if spent else 0.0,
        sent_tensors=max((piece["sent_tensors"] for piece in pieces), default=0),
        sent_nbytes=max((piece["sent_nbytes"] for piece in pieces), default=0),
        threads={str(piece["worker"]): piece["threads"] for piece in pieces if piece["worker"] >= 0},
        grown_nbytes=max((piece["grown_nbytes"] for piece in pieces if piece["worker"] >= 0), default=0),
    )


def _slow_ns(durations_ns: list[int]) -> list[int]:
    """Times of a worker's slow batches; its first one, which may load things, is left out."""
    later = durations_ns[1:]
    typical = median(later) if later else 0
    return [ns for ns in later if typical and ns > _SLOW * typical]


def in_made_samples(seen: list[EpochSeen], pieces: list[Piece]) -> list[EpochSeen]:
    """The epochs, with as many samples a batch as the dataset gave: a batch may join or drop some."""
    made, batches = (sum(piece[name] for piece in pieces) for name in ("samples", "batches"))
    if not made or not batches:
        return seen
    return [replace(epoch, samples=round(epoch.batches * made / batches)) for epoch in seen]
