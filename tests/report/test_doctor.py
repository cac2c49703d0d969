"""What the doctor prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_loaderperf.diagnosis import Advice, Diagnosis, Finding, Gain, Ledger
from pytest_loaderperf.diagnosis.ledger import EpochSeen, LoaderFacts, Site, Stages
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
    sites=(Site("data.py", 41, "Cells.__getitem__", "call", "zlib.decompress", count=320, own_ns=60, total_ns=60),),
    copy_ns=100_000,
)
FINDING = Finding(
    "repeated-work",
    "json.loads() gives the same result 1 times a sample, in 40% of the time",
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
        "  collate       20% ████                  collate_fn",
        "    line 41    100% of your lines         zlib.decompress",
        "",
        "what to change",
        "  1  repeated-work   data.py:41                                         2.6x (2.4 to 2.8), predicted",
        "     json.loads() gives the same result 1 times a sample, in 40% of the time",
        "     fix: do it once, in __init__ or on first use, and keep the result",
    ]


def test_without_findings_it_says_so():
    assert text_of(findings=())[-1] == "no mistakes found"


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_lines_fit_the_terminal(width):
    assert max(map(len, text_of(width=width))) <= max(width, 40) + 25


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
