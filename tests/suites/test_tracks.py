"""The suite of tracks: what it counts, how it judges, and one small run of all of it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from suites.tracks import __main__ as command
from suites.tracks import inputs, tracks
from suites.tracks.report import Row, figures, table

PRELOAD = {"uniform, as_py": [1.5], "uniform, ours": [0.01], "ragged, as_py": [1.0], "ragged, ours": [0.1]}


def row(kind, cache, *, per_s=100.0, wait=0.05, sample_ns=1000.0):
    return Row(kind, cache, None, 1 << 20, 0.5, [sample_ns], [per_s], [100.0], [wait])


def test_each_figure_is_a_ratio_within_the_run_and_says_whether_it_is_missed():
    rows = [
        row("parquet", "as_py", wait=0.8, sample_ns=150_000.0),
        row("parquet", "whole"),
        row("lance", "as_py", wait=0.4),
        row("lance", "whole", per_s=90.0, wait=0.2),
    ]
    assert [str(figure) for figure in figures(rows, PRELOAD)] == [
        "met           OME-Arrow, uniform: pre-load, as_py / ours >= 140: 150",
        "MISSED        OME-Arrow, ragged: pre-load, as_py / ours >= 20: 10",
        "met           parquet: pre-loaded batches / those of plain arrays >= 0.9: 1",
        "met           parquet: a sample, as_py / ours >= 140: 150",
        "met           parquet: data wait, where as_py has 80% <= 0.1: 0.05",
        "met           lance: pre-loaded batches / those of plain arrays >= 0.9: 0.9",
        "MISSED        lance: throughput after pre-load / parquet's >= 0.95: 0.9",
    ]


def test_a_format_without_figures_keeps_its_line_and_the_reason():
    lines = table([Row("vortex", "whole", "not installed. Run: pip install vortex-data"), row("npy", "mapped")])
    assert lines.splitlines()[-2].split() == [
        "npy",
        "mapped",
        "1.00",
        "MiB",
        "500",
        "ms",
        "1.00",
        "us",
        "100",
        "5.0%",
        "0.95",
    ]
    assert lines.splitlines()[-1] == "vortex       whole       not installed. Run: pip install vortex-data"


def test_data_wait_counts_the_time_in_next_and_leaves_the_first_step_out(monkeypatch):
    clock = {"ns": 0}
    monkeypatch.setattr(tracks, "_clock", lambda: clock["ns"])

    class Loader:
        def __iter__(self):
            for _ in range(3):
                clock["ns"] += 30
                yield {}

    class Training:
        def step(self, batch):
            clock["ns"] += 70

    assert tracks.data_wait(Loader(), Training(), steps=5) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["parquet", "npy", "tiff"])
def test_a_sample_before_and_after_pre_load_is_the_image_that_was_made(kind, tmp_path):
    arrays = inputs.images(6)
    made = inputs.made(kind, arrays, tmp_path)
    assert made == inputs.made(kind, arrays, tmp_path)  # made once
    with inputs.ExitStack() as opened:
        samples = [made.before(opened)[4], made.after(opened, "whole")[4]]
    for sample in samples:
        assert np.array_equal(sample["image"], arrays["image"][4])
        assert int(sample["label"]) == arrays["label"][4]


def test_one_step_trains_on_images_of_sixteen_bits():
    training = tracks.Training(16, "cpu")
    before = [parameter.clone() for parameter in training.model.parameters()]
    training.step({"image": torch.full((2, 4, 4), 65535, dtype=torch.uint16), "label": torch.tensor([0, 1])})
    assert any(not torch.equal(old, new) for old, new in zip(before, training.model.parameters(), strict=True))


def test_the_command_makes_measures_writes_and_draws(tmp_path, monkeypatch, capsys):
    for name, value in {"ACCESSES": 3, "TRIAL_NS": 1, "STEPS": 2}.items():
        monkeypatch.setattr(command, name, value)
    files = tmp_path / "tracks.json", tmp_path / "tracks.svg"
    arguments = [
        "--samples",
        "40",
        "--rounds",
        "1",
        "--formats",
        "parquet",
        "npy",
        "--caches",
        "as_py",
        "whole",
        "mapped",
    ]
    paths = ["--folder", str(tmp_path / "data"), "--json", str(files[0]), "--plot", str(files[1])]
    monkeypatch.setattr(sys, "argv", ["tracks", *arguments, *paths])
    assert command.main() in (0, 1)  # no real speed is asserted here
    shown = capsys.readouterr().out
    document = json.loads(files[0].read_text())
    assert document["schema"] == "loaderperf-tracks/1"
    assert [(r["format"], r["cache"], r["problem"]) for r in document["rows"]] == [
        (kind, cache, None) for kind in ("parquet", "npy") for cache in ("as_py", "whole", "mapped")
    ]
    assert all(len(r["waits"]) == len(r["sample_ns"]) == 1 for r in document["rows"])
    assert shown.splitlines()[0].split()[0] == "format"
    assert files[1].read_text().count("<svg") == 1
