"""The suite of tracks: what it counts, how it judges, and one small run of all of it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from pytest_loaderperf.data import optimize
from suites.tracks import __main__ as command
from suites.tracks import inputs, memory, tracks
from suites.tracks.compare import PARQUET, PLAIN, Compared
from suites.tracks.images import Images, image_sets
from suites.tracks.report import Row, figures, memory_figures, table

PRELOAD = {"uniform, as_py": [1.5], "uniform, ours": [0.01], "ragged, as_py": [1.0], "ragged, ours": [0.1]}


def row(kind, cache, *, images="made", per_s=100.0, wait=0.05, sample_ns=1000.0):
    return Row(images, kind, cache, None, 1 << 20, 0.5, [sample_ns], [per_s], [wait])


def test_each_figure_is_a_ratio_within_the_run_and_says_whether_it_is_missed():
    rows = [
        row("parquet", "as_py", wait=0.8, sample_ns=150_000.0),
        row("parquet", "whole"),
        row("lance", "as_py", wait=0.4),
        row("lance", "whole", wait=0.2),
        row("npy", "as_py", images="cells", wait=0.6),
        row("npy", "whole", images="cells", wait=0.2),
    ]
    compared = [
        Compared("made", "parquet", "whole", PLAIN, 0.98, "PASS"),
        Compared("made", "lance", "whole", PLAIN, 0.92, "PASS"),
        Compared("made", "lance", "whole", PARQUET, 0.94, "INCONCLUSIVE"),
        Compared("cells", "npy", "chunked", PLAIN, 0.8, "INCONCLUSIVE"),
        Compared("cells", "lance", "chunked", PLAIN, 0.85, "FAIL"),
    ]
    assert [str(figure) for figure in figures(rows, compared, PRELOAD)] == [
        "met           OME-Arrow, uniform: pre-load, as_py / ours >= 140: 150",
        "MISSED        OME-Arrow, ragged: pre-load, as_py / ours >= 20: 10",
        "met           parquet: a sample, as_py / ours >= 140: 150",
        "met           made: data wait, the most of 1 formats that waited > 50% before (parquet) <= 0.1: 0.05",
        "met           made: batches (whole) / those of plain arrays, the least of 2 formats (lance) >= 0.9: 0.92",
        "open          made: batches (whole) / those of parquet, the least of 1 formats (lance) >= 0.95: 0.94",
        "MISSED        cells: data wait, the most of 1 formats that waited > 50% before (npy) <= 0.1: 0.2",
        "MISSED        cells: batches (chunked) / those of plain arrays, the least of 2 formats (lance) >= 0.9: 0.85",
    ]


@pytest.mark.parametrize(
    "waits, shown", [([0.08, 0.12, 0.2], "open    "), ([0.11, 0.12, 0.2], "MISSED  "), ([0.08, 0.09, 0.2], "met     ")]
)
def test_a_data_wait_is_missed_if_it_is_in_every_round(waits, shown):
    rows = [row("npy", "as_py", wait=0.8), row("npy", "whole"), row("lance", "as_py", wait=0.8), row("lance", "whole")]
    rows[1].waits, rows[3].waits = waits, [0.01, 0.02, 0.03]
    [text] = [str(figure) for figure in figures(rows, [], {}) if "data wait" in figure.text]
    assert text.startswith(shown)
    assert "(npy)" in text


@pytest.mark.parametrize("bare_ns, verdict, ratio", [(900.0, "met   ", 0.9), (700.0, "MISSED", 0.7)])
def test_a_sample_that_is_not_140_times_as_py_is_judged_by_a_bare_copy(bare_ns, verdict, ratio):
    rows = [row("parquet", "as_py", sample_ns=100_000.0), row("parquet", "whole")]
    rows[1].bare_ns.append(bare_ns)
    assert str(figures(rows, [], {})[0]) == (
        f"{verdict}        parquet: a sample, a bare copy of its rows / ours (as_py / ours is 100) >= 0.8: {ratio}"
    )


def test_a_bare_sample_is_that_of_the_store():
    store = optimize(pa.table({"image": [[1, 2], [3, 4]], "label": [5, 6]}), cache="whole")
    bare = tracks.Bare(store)
    assert len(bare) == 2
    for mine, theirs in zip(bare, store, strict=True):
        assert {name: one.tolist() for name, one in mine.items()} == {k: one.tolist() for k, one in theirs.items()}
        mine["image"].zero_()
    assert store[0]["image"].tolist() == [1, 2]


def test_memory_is_told_as_shares_of_the_rows_and_of_the_budget():
    taken = memory.Memory(4 << 30, 512 << 20, 1000, 1050, 300 << 20, 700 << 20, [2.0, 3.0], [4.0, 4.0], [1.0, 3.0])
    assert [str(figure) for figure in memory_figures(taken)] == [
        "met           4 processes over one cache: PSS / bytes of the rows <= 1.1: 1.05",
        "MISSED        4.00 GiB under 512 MiB: peak RSS / budget <= 1.25: 1.37",
        "met           4.00 GiB under 512 MiB: an epoch / a sequential read >= 0.7: 0.75",
        "below         4.00 GiB under 512 MiB: shuffled / a sequential read >= 0.7: 0.5",
    ]
    assert [figure.missed for figure in memory_figures(taken)] == [False, True, False, False]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_measured_in_processes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESSES", 2)
    taken = memory.measure(16 << 20, tmp_path, rounds=1)
    assert taken.shared_nbytes > taken.budget_nbytes == 2 << 20
    assert min(taken.shared_pss_nbytes, taken.build_rss_nbytes, taken.epoch_rss_nbytes) > taken.budget_nbytes
    assert len(taken.epoch_s) == len(taken.shuffled_s) == len(taken.read_s) == 1


@pytest.mark.slow
def test_a_process_that_dies_is_an_error():
    with pytest.raises(EOFError), memory._process(_die) as pipe:
        pipe.recv()


def _die(pipe):
    raise SystemExit(1)


def test_the_sets_of_images_are_real_and_alike_in_layout(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (160, 100), np.uint8)
    stack = rng.integers(-1, 96, (2, 3, 90, 70), np.int8)
    tifffile.imwrite(tmp_path / "field.tif", plane)
    tifffile.imwrite(tmp_path / "stack.ome.tiff", stack, metadata={"axes": "TCYX"})
    sets = image_sets(50, tmp_path)
    assert {name: (one.axes, one.pixels.shape) for name, one in sets.items()} == {
        "made": ("yx", (50, 100, 100)),
        "digits": ("yx", (50, 8, 8)),
        "photos": ("cyx", (50, 3, 64, 64)),
        "cells": ("yx", (9 * 4, 64, 64)),
        "stack tcyx": ("tcyx", (3 * 1, 2, 3, 64, 64)),
    }
    for one in sets.values():
        assert one.pixels.dtype == np.uint16
        assert (len(one.labels), one.labels.dtype) == (len(one.pixels), np.int64)
        assert 0 <= one.labels.min() <= one.labels.max() < 10
        assert one.all_axes.shape == (len(one.pixels), *one.all_axes.shape[1:3], 1, *one.pixels.shape[-2:])
    assert np.array_equal(sets["cells"].pixels[5], plane[12:76, 12:76])
    assert np.array_equal(sets["stack tcyx"].pixels[1], stack.view(np.uint8)[:, :, 12:76, :64])
    assert image_sets(50, tmp_path / "none").keys() == {"made", "digits", "photos"}


def test_a_format_without_figures_keeps_its_line_and_the_reason():
    lines = table([Row("made", "vortex", "whole", "not installed. Run: pip install vortex-data"), row("npy", "mapped")])
    assert lines.splitlines()[1] == "images: made"
    assert lines.splitlines()[-3].split() == [
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
    assert lines.splitlines()[-1] == "made: vortex, whole: not installed. Run: pip install vortex-data"


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

    assert tracks.data_wait(Loader(), Training(), 5, 1000) == pytest.approx(0.3)
    assert clock["ns"] == 600
    tracks.data_wait(Loader(), Training(), 5, 1)
    assert clock["ns"] == 900  # the first step, and two


@pytest.mark.parametrize("kind", ["parquet", "npy", "tiff"])
def test_a_sample_before_and_after_pre_load_is_the_image_that_was_made(kind, tmp_path):
    shape = (3, 1, 2, 1, 4, 5)
    images = Images("stack", "cyx", np.arange(120, dtype=np.uint16).reshape(3, 2, 4, 5), np.arange(3))
    assert images.all_axes.shape == shape
    made = inputs.made(kind, images, tmp_path)
    assert made == inputs.made(kind, images, tmp_path)  # made once
    with inputs.ExitStack() as opened:
        samples = [made.before(opened)[2], made.after(opened, "whole")[2]]
    for sample in samples:
        assert np.array_equal(sample["image"], images.pixels[2])
        assert int(sample["label"]) == 2


def test_other_images_of_a_name_are_written_anew(tmp_path):
    one, two = (Images("digits", "yx", np.full((2, 3, 3), value, np.uint16), np.arange(2)) for value in (1, 2))
    assert inputs.made("npy", one, tmp_path).path != inputs.made("npy", two, tmp_path).path


def test_one_step_trains_on_images_of_sixteen_bits():
    training = tracks.Training(16, "cpu")
    before = [parameter.clone() for parameter in training.model.parameters()]
    training.step({"image": torch.full((2, 4, 4), 65535, dtype=torch.uint16), "label": torch.tensor([0, 1])})
    assert any(not torch.equal(old, new) for old, new in zip(before, training.model.parameters(), strict=True))


@pytest.mark.slow
def test_the_command_makes_measures_writes_and_draws(tmp_path, monkeypatch, capsys):
    for name, value in {"ACCESSES": 3, "TRIAL_NS": 1, "STEPS": 2, "REAL_CACHES": ("whole",)}.items():
        monkeypatch.setattr(command, name, value)
    files = tmp_path / "tracks.json", tmp_path / "tracks.svg"
    arguments = [
        "--samples",
        "300",
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
    monkeypatch.setattr(command.compare, "BUDGET_S", 0.2)
    arguments += ["--images", "made", "digits", "--memory", "0"]
    paths = ["--folder", str(tmp_path / "data"), "--json", str(files[0]), "--plot", str(files[1])]
    monkeypatch.setattr(sys, "argv", ["tracks", *arguments, *paths])
    assert command.main() in (0, 1)  # no real speed is asserted here
    shown = capsys.readouterr().out
    document = json.loads(files[0].read_text())
    assert document["schema"] == "loaderperf-tracks/2"
    caches = {"made": ("as_py", "whole", "mapped"), "digits": ("as_py", "whole")}
    assert [(r["images"], r["format"], r["cache"], r["problem"]) for r in document["rows"]] == [
        (name, kind, cache, None) for name in caches for kind in ("parquet", "npy") for cache in caches[name]
    ]
    assert [(one["images"], one["format"], one["against"]) for one in document["compared"]] == [
        (name, *pair) for name in caches for pair in 2 * [("parquet", PLAIN), ("npy", PLAIN), ("npy", PARQUET)]
    ]
    assert all(len(r["waits"]) == len(r["sample_ns"]) == 1 for r in document["rows"])
    assert "images: digits" in shown.splitlines()
    assert files[1].read_text().count("<svg") == 1
