"""A trace of one pass in the JSON trace event format, which ui.perfetto.dev and chrome://tracing open.

Of each process and thread a track; stages are complete events ("X"), nested as their calls were. Arrows ("s", "t",
"f") lead a batch from the worker that fetched it to the main process. A counter ("C") shows how many batches lay ready.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_loaderperf.diagnosis import Diagnosis
from pytest_loaderperf.diagnosis.timeline import ASK, SEND, Span, Timeline, Track, ready_changes
from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.document import whole_or_absent

SCHEMA = "loaderperf-trace/1"
Event = dict[str, Any]
_NAMES = {"next": "next()", "start": "iter()", "end": "end of epoch", "gc": "garbage collection"}
_ITSELF = ("thread", "task", "epoch")  # stages that are named by what they do
_ROUTE = ("fetch", SEND, "receive")  # of a batch between processes
_US = 1000  # nanoseconds: the format counts microseconds


def write_trace(diagnosis: Diagnosis, path: Path) -> None:
    """Write the trace so that it is complete or absent, an event a line. Raises OSError."""
    timeline = diagnosis.ledger.timeline
    about = {"loader": printable(diagnosis.name), "step_seconds": diagnosis.ledger.step_ns / 1e9, "cut_seconds": None}
    if timeline.cut_ns:
        about["cut_seconds"] = cut_seconds(timeline)
    head = json.dumps({"schema": SCHEMA, "displayTimeUnit": "ms", "otherData": about})
    with whole_or_absent(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(f'{head[:-1]}, "traceEvents": [\n')
        file.write(",\n".join(json.dumps(event, allow_nan=False) for event in trace_events(timeline)))
        file.write("\n]}\n")


def cut_seconds(timeline: Timeline) -> float:
    """How long the part of a pass is that its timeline has; 0 if it has all of it."""
    return (timeline.cut_ns - timeline.began_ns) / 1e9 if timeline.cut_ns else 0.0


def trace_events(timeline: Timeline) -> list[Event]:
    """The events: names first, then all others in order of time, an enclosing one before those inside it."""
    began_ns = timeline.began_ns
    timed = [event for track in timeline.tracks for event in _of_track(track)]
    timed += [*_arrows(timeline), *_counts(timeline)]
    timed.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    for event in timed:
        event["ts"] = (event["ts"] - began_ns) / _US
        if "dur" in event:
            event["dur"] /= _US
    return [*_names(timeline), *timed]


def _names(timeline: Timeline) -> Iterator[Event]:
    processes = {track.process: track for track in timeline.tracks}
    main_first = sorted(processes.values(), key=lambda track: (not track.main, track.worker < 0, track.worker))
    for order, track in enumerate(main_first):
        name = "main process" if track.main else f"worker {track.worker}" if track.worker >= 0 else "process"
        where = {"ph": "M", "pid": track.process, "tid": track.process}
        yield where | {"name": "process_name", "args": {"name": name}}
        yield where | {"name": "process_sort_index", "args": {"sort_index": order}}
    for track in timeline.tracks:
        where = {"ph": "M", "pid": track.process, "tid": track.thread}
        yield where | {"name": "thread_name", "args": {"name": printable(track.name)}}


def _of_track(track: Track) -> Iterator[Event]:
    for span in track.spans:
        if span.stage == ASK:
            continue  # the counter shows it
        name = span.what if span.stage in _ITSELF and span.what else _NAMES.get(span.stage, span.stage)
        args: Event = {"batch": span.batch} if span.batch >= 0 else {}
        if span.what and span.stage not in _ITSELF:
            args["what"] = printable(span.what)
        yield {
            "name": printable(name),
            "cat": span.stage,
            "ph": "X",
            "ts": span.began_ns,
            "dur": span.ended_ns - span.began_ns,
            "pid": track.process,
            "tid": track.thread,
            "args": args,
        }


def _arrows(timeline: Timeline) -> Iterator[Event]:
    """From fetch to send to receive. A batch whose number was used twice in an iteration has none."""
    routes: dict[tuple[str, int], dict[str, tuple[Track, Span]]] = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for track in timeline.tracks:
        for span in track.spans:
            if span.stage in _ROUTE and span.iteration:
                seen[span.iteration, span.batch, span.stage] += 1
                routes.setdefault((span.iteration, span.batch), {})[span.stage] = track, span
    once = [route for at, route in routes.items() if all(seen[*at, stage] == 1 for stage in _ROUTE)]
    for number, route in enumerate(once, 1):
        for phase, stage in zip("stf", _ROUTE, strict=True):
            track, span = route[stage]
            event = {"name": "batch", "cat": "hand-over", "ph": phase, "id": number, "ts": span.began_ns}
            yield event | {"pid": track.process, "tid": track.thread} | ({"bp": "e"} if phase == "f" else {})


def _counts(timeline: Timeline) -> Iterator[Event]:
    main = next((track for track in timeline.tracks if track.main), None)
    if main is not None:
        for at, ready in ready_changes(timeline):
            where = {"name": "batches ready", "ph": "C", "ts": at, "pid": main.process, "tid": main.process}
            yield where | {"args": {"ready": ready}}
