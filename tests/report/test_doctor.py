"""What the doctor prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_loaderperf.diagnosis import Advice, Diagnosis, Finding, Gain, Ledger
from pytest_loaderperf.diagnosis.ledger import EpochSeen, LoaderFacts, Site, Stages
from pytest_loaderperf.diagnosis.timeline import QueueSeen
from pytest_loaderperf.report.doctor import doctor_lines

LOADER = LoaderFacts(
    kind="DataLoader",
    torch_like=True,
    batch_size=32,
    num_workers=2,
    dataset="Cells",
    dataset_file=str(Path.cwd() / "data.py"),
    dataset_line=38,
)
LEDGER = Ledger(
    loader=LOADER,
    samples=320,
    batches=10,
    stages=Stages(ns={"fetch": 80_000_000, "collate": 20_000_000}, sent_nbytes=1 << 20),
    timed=(EpochSeen(10, 320, 10_000_000, 90_000_000, 0, whole=True),),
    counted_ns={"fetch": 100, "collate": 100},
    sites=(
        Site("data.py", 41, "Cells.__getitem__", "call", "zlib.decompress", own_ns=60, fetch_ns=60),
        Site("data.py", 42, "Cells.__getitem__", "call", "Div", own_ns=15, fetch_ns=15),
        Site("pool.py", 7, "read", "call", "io.open", own_ns=25, in_helper_thread=9),
    ),
    copy_ns=100_000,
)
EPOCH = EpochSeen(10, 320, 10_000_000, 30_000_000, 0, whole=True, steps_ns=90_000_000)
FINDING = Finding(
    "repeated-work",
    "json.loads() gives the same result once a sample, in 40% of the time",
    str(Path.cwd() / "data.py"),
    41,
    "Cells.__getitem__",
    1.0,
    "times a sample",
    "do it once, in __init__ or on first use, and keep the result",
    Gain(2.6, 2.4, 2.8),
)


def text_of(findings=(FINDING,), width=100, ledger=LEDGER):
    return [line.text for line in doctor_lines(Diagnosis("mypkg:make_loader", ledger, list(findings)), width)]


def test_the_whole_report():
    assert text_of() == [
        "mypkg:make_loader   DataLoader, 2 workers, batch 32: 3.20k samples/s, 1.0% of the copy limit,",
        "workers busy 50%",
        "",
        "where a batch's time goes",
        "  fetch         80% ████████████████      Cells.__getitem__  data.py:38",
        "    line 41     48% ░░░░░░░░░░            zlib.decompress",
        "    line 42     12% ░░                    operator /",
        "    the rest    20% ░░░░                  ".rstrip(),
        "  collate       20% ████                  collate_fn",
        "  elsewhere     25% of your lines         io.open  pool.py:7",
        "",
        "what to change",
        "  1  repeated-work   data.py:41                                         2.6x (2.4 to 2.8), predicted",
        "     json.loads() gives the same result once a sample, in 40% of the time",
        "     fix: do it once, in __init__ or on first use, and keep the result",
    ]


def test_a_line_in_another_file_than_its_stage_is_named_with_it():
    sites = tuple(replace(site, file="parts.py") for site in LEDGER.sites[:2])
    shown = text_of(ledger=replace(LEDGER, sites=sites))
    assert shown[5] == "    line 41     48% ░░░░░░░░░░            zlib.decompress  parts.py:41"


def test_lines_that_took_more_than_their_stage_do_not_exceed_its_share():
    diagnosis = Diagnosis("x", replace(LEDGER, counted_ns={"fetch": 50}), [])
    assert sum(line.share for line in diagnosis.lines_of("fetch")) == pytest.approx(diagnosis.stages["fetch"])


@pytest.mark.parametrize(
    ("late", "waits_ms", "words"),
    [
        (81, None, "empty in 81% of the asks: the workers are the limit"),
        (5, None, "empty in 5% of the asks: the hand-over is the limit"),
        (5, 12, "empty in 5% of the asks: the hand-over is the limit"),
        (5, 9, "empty in 5% of the asks: the consumer is the limit"),
        (30, 9, "empty in 30% of the asks: workers and consumer are about equally fast"),
    ],
)
def test_the_queue_says_who_is_the_limit(late, waits_ms, words):
    queue = QueueSeen(capacity=4, asks=100, ready=0.31, empty=late, late=late)
    stepped = () if waits_ms is None else (replace(EPOCH, waits_ns=waits_ms * 1_000_000),)
    ledger = replace(LEDGER, queue=queue, step_ns=10_000_000 * len(stepped), stepped=stepped)
    assert f"  queue        0.3 of 4 batches ready on average, {words}" in text_of(width=120, ledger=ledger)


def test_a_slow_batch_that_holds_up_others_is_told_from_an_empty_queue():
    queue = QueueSeen(capacity=4, asks=100, ready=1.5, empty=20, late=70)
    (at,) = [n for n, line in enumerate(text_of(ledger=replace(LEDGER, queue=queue))) if line.startswith("  queue")]
    assert text_of(ledger=replace(LEDGER, queue=queue))[at : at + 2] == [
        "  queue        1.5 of 4 batches ready on average, empty in 20% of the asks, the next in order not",
        "               ready in 70%: the workers are the limit",
    ]


def test_without_workers_there_is_no_queue():
    assert not [line for line in text_of() if line.startswith("  queue")]


def test_a_step_says_what_it_would_wait():
    ledger = replace(LEDGER, step_ns=10_000_000, stepped=(EPOCH,))
    assert text_of(ledger=ledger)[10:12] == [
        "  step         10 ms for each batch: it would wait for data 25% of the time, accelerator utilisation",
        "               (AU) 75%",
    ]
    assert Diagnosis("x", ledger, []).to_json()["step"] == {
        "seconds": 0.01,
        "data_wait": 0.25,
        "accelerator_utilisation": 0.75,
    }


def test_a_step_in_epochs_of_one_batch_says_that_nothing_is_known():
    ledger = replace(LEDGER, step_ns=10_000_000, stepped=(replace(EPOCH, waits_ns=0, steps_ns=0),))
    assert "  step         10 ms for each batch: no epoch had a second batch to wait for" in text_of(ledger=ledger)


def test_without_findings_it_says_so():
    assert text_of(findings=())[-1] == "no mistakes found"


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_lines_fit_the_terminal(width):
    assert max(map(len, text_of(width=width))) <= width


def test_a_long_name_is_shortened_and_its_line_stays():
    ledger = replace(LEDGER, loader=replace(LOADER, dataset="CellsOfManyPlatesAndTimePoints"))
    (fetch,) = (line for line in text_of(width=80, ledger=ledger) if line.startswith("  fetch "))
    assert fetch.startswith("  fetch         80% ████████████████      ...")
    assert fetch.endswith(".__getitem__  data.py:38")
    assert len(fetch) == 80


def test_a_gain_that_does_not_fit_has_a_line_of_its_own():
    lines = text_of(width=50)
    assert lines[lines.index("what to change") + 1 :][:2] == [
        "  1  repeated-work   data.py:41",
        "     2.6x (2.4 to 2.8), predicted",
    ]


def test_what_was_not_seen_is_said():
    ledger = Ledger(loader=LOADER, unseen=("the end of an epoch",))
    assert text_of(findings=(), ledger=ledger)[-1] == "not seen: the end of an epoch"


def test_what_was_tried_is_shown_with_the_fastest_first():
    advice = (
        Advice("DataLoader(dataset, num_workers=0, ...)", Gain(1.2, 0.9, 1.5, "measured")),
        Advice("ReferenceLoader(dataset, ...)", Gain(2.0, 1.8, 2.2, "measured"), "fits: 8 MB"),
    )
    untried = ("pin_memory: no CUDA device here",)
    lines = doctor_lines(Diagnosis("mypkg:make_loader", LEDGER, [], advice, untried), 70)[-5:]
    assert [(" ".join(line.text.split()), line.color) for line in lines] == [
        ("tried on this machine, in pairs", "bold"),
        ("ReferenceLoader(dataset, ...) 2x (1.8 to 2.2)", "green"),
        ("fits: 8 MB", "green"),
        ("DataLoader(dataset, num_workers=0, ...) 1.2x (0.9 to 1.5)", ""),
        ("not tried: pin_memory: no CUDA device here", ""),
    ]
