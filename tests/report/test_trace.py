"""The trace in Chrome's JSON trace event format."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.diagnosis import Diagnosis, Ledger
from pytest_loaderperf.diagnosis.timeline import Span, Timeline, Track
from pytest_loaderperf.report.trace import cut_seconds, trace_events, write_trace

MS = 1_000_000
MAIN = (
    Span("epoch", 0, 90 * MS, what="epoch 1"),
    Span("next", 10 * MS, 40 * MS, 0),
    Span("ask", 11 * MS, 39 * MS, 0, "1.0"),
    Span("wait", 12 * MS, 38 * MS, 0),
    Span("receive", 35 * MS, 38 * MS, 0, "1.0"),
    Span("gc", 41 * MS, 42 * MS, what="generation 2"),
)
WORKER = (Span("fetch", 13 * MS, 30 * MS, 0, "1.0"), Span("collate", 25 * MS, 29 * MS, 0))
FEEDER = (Span("thread", 5 * MS, 90 * MS, what="queue.feed"), Span("send", 30 * MS, 33 * MS, 0, "1.0"))
TIMELINE = Timeline(
    (
        Track(10, 10, "MainThread", main=True, spans=MAIN),
        Track(11, 11, "MainThread", 0, spans=WORKER),
        Track(11, 12, "QueueFeederThread", 0, spans=FEEDER),
    )
)


def problems(events):
    """What the format, or a viewer, would not accept."""
    names = {(event["name"], event["pid"], event["tid"]) for event in events if event["ph"] == "M"}
    timed = [event for event in events if event["ph"] != "M"]
    if [event["ts"] for event in timed] != sorted(event["ts"] for event in timed) or (timed and timed[0]["ts"] < 0):
        yield "out of order"
    tracks, flows = defaultdict(list), defaultdict(str)
    for event in timed:
        if event["ph"] == "X":
            if ("thread_name", event["pid"], event["tid"]) not in names:
                yield f"no name: {event}"
            yield from overlaps(tracks[event["pid"], event["tid"]], event)
        elif event["ph"] in "stf":
            flows[event["id"]] += event["ph"]
            if not any(end >= event["ts"] for end in tracks[event["pid"], event["tid"]]):
                yield f"an arrow at nothing: {event}"
        elif event["ph"] != "C" or event["args"]["ready"] < 0:
            yield f"not known: {event}"
    yield from (f"arrow {number}: {phases}" for number, phases in flows.items() if phases != "stf")


def overlaps(ends, event):
    """Put an event on its track, whose open events end at ``ends``; innermost last."""
    while ends and ends[-1] <= event["ts"]:
        ends.pop()
    end = event["ts"] + event["dur"]
    if event["dur"] < 0 or (ends and end > ends[-1] + 1e-6):
        yield f"overlaps: {event}"
    ends.append(end)


def test_the_check_below_sees_what_is_wrong():
    crossed = Track(1, 1, "MainThread", main=True, spans=(Span("fetch", 0, 10), Span("next", 5, 15)))
    events = trace_events(Timeline((crossed,)))
    assert [found.partition(":")[0] for found in problems(events)] == ["overlaps"]
    assert "out of order" in list(problems(events[::-1]))
    without_an_end = [event for event in trace_events(TIMELINE) if event["ph"] != "f"]
    assert list(problems(without_an_end)) == ["arrow 1: st"]


def test_the_events_of_a_batch_from_a_worker():
    events = trace_events(TIMELINE)
    assert list(problems(events)) == []
    assert [(e["args"]["name"], e["pid"], e["tid"]) for e in events if e["name"].endswith("_name")] == [
        ("main process", 10, 10),
        ("worker 0", 11, 11),
        ("MainThread", 10, 10),
        ("MainThread", 11, 11),
        ("QueueFeederThread", 11, 12),
    ]
    shown = [(e["ph"], e["name"], e["ts"] / 1000, e["tid"]) for e in events if e["ph"] != "M"]
    assert shown == [
        ("X", "epoch 1", 0, 10),
        ("X", "queue.feed", 5, 12),
        ("X", "next()", 10, 10),
        ("X", "wait", 12, 10),
        ("X", "fetch", 13, 11),
        ("s", "batch", 13, 11),
        ("X", "collate", 25, 11),
        ("X", "send", 30, 12),
        ("t", "batch", 30, 12),
        ("C", "batches ready", 33, 10),
        ("X", "receive", 35, 10),
        ("f", "batch", 35, 10),
        ("C", "batches ready", 39, 10),
        ("X", "garbage collection", 41, 10),
    ]
    fetch = next(event for event in events if event["name"] == "fetch")
    assert fetch == {
        "name": "fetch",
        "cat": "fetch",
        "ph": "X",
        "ts": 13_000.0,
        "dur": 17_000.0,
        "pid": 11,
        "tid": 11,
        "args": {"batch": 0},
    }


def test_a_batch_number_that_was_used_twice_has_no_arrow():
    twice = Track(13, 13, "MainThread", 1, spans=(Span("fetch", 50 * MS, 51 * MS, 0, "1.0"),))
    assert not [e for e in trace_events(Timeline((*TIMELINE.tracks, twice))) if e["ph"] in "stf"]


def apart(one, two):
    return one[1] <= two[0] or two[1] <= one[0]


def inside(one, two):
    return two[0] <= one[0] <= one[1] <= two[1]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
@settings(deadline=None)
def test_stages_that_begin_at_one_time_are_nested_by_their_length(parts):
    """Of calls within each other, the enclosing one comes first, whatever was kept first."""
    spans = sorted((began, began + length) for began, length in parts)
    nested = [one for one in spans if all(apart(one, two) or inside(one, two) or inside(two, one) for two in spans)]
    track = Track(1, 1, "MainThread", main=True, spans=tuple(Span("fetch", *span) for span in nested))
    assert list(problems(trace_events(Timeline((track,))))) == []


def diagnosis(timeline):
    return Diagnosis("pkg:make", Ledger(timeline=timeline, step_ns=MS), [])


def test_a_trace_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "trace.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_trace(diagnosis(Timeline((Track(1, float("nan"), "x", spans=MAIN),))), file)
    assert list(tmp_path.iterdir()) == []
    write_trace(diagnosis(TIMELINE), file)
    content = json.loads(file.read_text())
    assert content["traceEvents"] == trace_events(TIMELINE)
    assert content["schema"] == "loaderperf-trace/1"
    assert content["otherData"] == {"loader": "pkg:make", "step_seconds": 0.001, "cut_seconds": None}


def test_a_trace_that_was_cut_says_where(tmp_path):
    cut = Timeline(TIMELINE.tracks, cut_ns=50 * MS)
    write_trace(diagnosis(cut), tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text())["otherData"]["cut_seconds"] == cut_seconds(cut) == 0.05


def test_names_from_outside_are_escaped():
    track = Track(1, 1, "\ud800\n", main=True, spans=(Span("task", 0, 1, what="f\ud800"),))
    assert json.dumps(trace_events(Timeline((track,))), ensure_ascii=False).encode().isascii()
