"""What a process keeps of its threads, and how a worker hands it on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pool

import pytest

from pytest_loaderperf.diagnosis.passes import spans as module
from pytest_loaderperf.diagnosis.passes.spans import EPOCH, OF_QUEUE, Spans
from pytest_loaderperf.diagnosis.timeline import Span


@pytest.fixture
def watched(monkeypatch):
    """Spans of every stage, with threads; nothing of it stays."""
    monkeypatch.setattr(threading.Thread, "_bootstrap_inner", threading.Thread._bootstrap_inner)
    monkeypatch.setattr(pool._WorkItem, "run", pool._WorkItem.run)
    spans = Spans(None)
    spans.watch_threads()
    return spans


def kept(spans, folder):
    return {track.name: [span.stage for span in track.spans] for track in spans.timeline(folder, []).tracks}


def test_only_the_chosen_stages_are_kept(tmp_path):
    spans = Spans(OF_QUEUE)
    for stage in ("fetch", "ask", "send"):
        spans.add(stage, 1, 2)
    assert kept(spans, tmp_path) == {"MainThread": ["ask", "send"]}


def test_a_process_stops_to_keep_spans_and_says_when(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_SPANS", 2)
    spans = Spans(None)
    for began in (10, 20, 30, 40):
        spans.add("fetch", began, began + 5)
    spans.add(EPOCH, 5, 50)
    timeline = spans.timeline(tmp_path, [])
    assert timeline.cut_ns == 30
    assert [span.began_ns for span in timeline.tracks[0].spans] == [5, 10, 20]


def test_threads_and_tasks_are_named_by_their_function(watched, tmp_path):
    def work():
        return None

    with ThreadPoolExecutor(1, "readers") as executor:
        executor.submit(work).result()
    (track,) = [track for track in watched.timeline(tmp_path, []).tracks if track.name.startswith("readers")]
    assert [span.stage for span in track.spans] == ["thread", "task"]
    assert track.spans[1].what.startswith(f"{__name__}.test_threads")
    assert f"{__file__}:" in track.spans[1].what


def test_threads_of_a_kind_that_run_one_after_another_are_numbered_without_end_on_few_tracks(watched, tmp_path):
    for _ in range(8):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    tracks = [track for track in watched.timeline(tmp_path, []).tracks if "int" in track.spans[0].what]
    assert sum(len(track.spans) for track in tracks) == 8
    assert {track.name for track in tracks} == {"Thread (int)"}


def test_a_thread_that_still_runs_is_shown_up_to_now(watched, tmp_path):
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, name="waits")
    thread.start()
    try:
        assert kept(watched, tmp_path)["waits"] == ["thread"]
    finally:
        ends.set()
        thread.join()


def test_what_a_worker_writes_is_read_in_parts_and_without_a_line_that_is_cut_off(tmp_path):
    worker = Spans(None)
    file = tmp_path / "7.spans"
    for began in (10, 20):
        worker.add("fetch", began, began + 5, batch=began, iteration="1.0")
        worker.write(file, final=began == 20)
    with file.open("a") as written:
        written.write('[0, "fetch", 30')
    piece = {"process": 7, "worker": 0, "tracks": worker.names(), "full_ns": 0}
    (track,) = Spans(None).timeline(tmp_path, [piece]).tracks
    assert (track.process, track.worker, track.main) == (7, 0, False)
    assert track.spans == (Span("fetch", 10, 15, 10, "1.0"), Span("fetch", 20, 25, 20, "1.0"))


def test_a_worker_that_wrote_nothing_has_no_track(tmp_path):
    piece = {"process": 7, "worker": 0, "tracks": [], "full_ns": 0}
    assert Spans(None).timeline(tmp_path, [piece]).tracks == ()
