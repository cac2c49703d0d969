"""Spans on tracks: how the queue is known from them, and how they are bounded."""

from __future__ import annotations

import pytest

from pytest_loaderperf.diagnosis import timeline as module
from pytest_loaderperf.diagnosis.timeline import QueueSeen, Span, Timeline, Track, bounded, queue_seen, ready_changes


def seen(asks, sends, iteration="1.0"):
    """A timeline of (began, ended, batch) of asks and (ended, batch) of sends."""
    asked = tuple(Span("ask", *ask[:2], batch, iteration) for *ask, batch in asks)
    sent = tuple(Span("send", ended - 1, ended, batch, iteration) for ended, batch in sends)
    return Timeline((Track(1, 1, "MainThread", main=True, spans=asked), Track(2, 2, "Feeder", 0, spans=sent)))


def both(*timelines):
    return Timeline(tuple(track for timeline in timelines for track in timeline.tracks))


SLOW_WORKERS = seen([(0, 11, 0), (12, 21, 1), (22, 31, 2)], [(10, 0), (20, 1), (30, 2)])
SLOW_CONSUMER = seen([(0, 11, 0), (50, 51, 1), (90, 91, 2)], [(10, 0), (20, 1), (30, 2)])
HELD_UP = seen([(0, 11, 0), (40, 51, 1), (52, 53, 2)], [(10, 0), (20, 2), (50, 1)])


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        (SLOW_WORKERS, QueueSeen(4, asks=2, ready=0.0, empty=2, late=2, over_time=(0.0, 0.0))),
        (SLOW_CONSUMER, QueueSeen(4, asks=2, ready=1.5, empty=0, late=0, over_time=(2.0, 1.0))),
        (HELD_UP, QueueSeen(4, asks=2, ready=1.0, empty=0, late=1, over_time=(1.0, 1.0))),
        (Timeline(), QueueSeen(4)),
    ],
    ids=["slow workers", "slow consumer", "a batch that holds up others", "no workers"],
)
def test_the_queue_is_what_was_sent_and_not_yet_taken(timeline, expected):
    assert queue_seen(timeline, 4) == expected


def test_epochs_are_kept_apart_and_the_first_ask_of_each_does_not_count():
    again = seen([(100, 111, 0), (150, 151, 1)], [(110, 0), (120, 1)], iteration="1.1")
    assert queue_seen(both(SLOW_WORKERS, again), 4).asks == 3
    assert queue_seen(both(SLOW_WORKERS, again), 4).empty == 2


def test_batches_that_come_in_any_order_are_late_if_none_is_ready():
    timeline = seen([(0, 11, -1), (15, 21, -1), (40, 41, -1)], [(10, 1), (20, 0), (30, 2)])
    assert (queue_seen(timeline, 4).empty, queue_seen(timeline, 4).late) == (1, 1)


def test_the_queue_over_time_has_few_parts():
    asks = [(n * 10, n * 10 + 5, n) for n in range(1002)]
    assert len(queue_seen(seen(asks, [(n * 10 + 1, n) for n in range(1002)]), 4).over_time) == 91


def test_ready_batches_go_up_with_each_that_is_sent_and_down_with_each_that_is_taken():
    assert ready_changes(SLOW_CONSUMER) == [(10, 1), (11, 0), (20, 1), (30, 2), (51, 1), (91, 0)]


def test_batches_that_nobody_asked_for_are_gone_with_their_epoch():
    broken_off = seen([(0, 11, 0)], [(10, 0), (11, 1), (40, 2)])
    assert ready_changes(broken_off)[-1] == (11, 0)


def test_all_tracks_are_cut_where_one_process_stopped_to_keep_spans():
    timeline = bounded(SLOW_WORKERS.tracks, [25, 40])
    assert timeline.cut_ns == 25
    assert [len(track.spans) for track in timeline.tracks] == [3, 2]
    assert bounded(SLOW_WORKERS.tracks, []) == SLOW_WORKERS


def test_a_timeline_has_at_most_so_many_spans(monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_TRACE", 4)
    timeline = bounded(SLOW_WORKERS.tracks, [])
    assert sum(len(track.spans) for track in timeline.tracks) == 4
    assert timeline.cut_ns == 22
