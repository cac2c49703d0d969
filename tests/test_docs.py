"""The documentation: it builds without a warning, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import pytest_loaderperf
from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.history import keep
from tests.report import results

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PACKAGE = """
import torch
from pytest_loaderperf import ReferenceLoader
from torch.utils.data import TensorDataset

class MyDataset(TensorDataset):
    def __init__(self):
        super().__init__(torch.zeros(256, 64), torch.arange(256))

def make_loader():
    return ReferenceLoader((torch.zeros(256, 64), torch.arange(256)), batch_size=32)

def make_store(n):
    return dict.fromkeys(range(n))
"""


def examples(page):
    """The Python code blocks that a page has, but for those of rules, which are parts of programs."""
    text = page.read_text("utf-8").partition("\n## Rules\n")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def shown_tests(page):
    return [code for code in examples(page) if "def test_" in code and not code.startswith("# test_data.py\nimport")]


def scripts_of(page):
    return [code for code in examples(page) if "def test_" not in code]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "trees"]
    built = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "site"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "site" / "api.html").read_text("utf-8")
    assert "pytest_loaderperf.ReferenceLoader" in page
    assert not re.findall(r'(?:src|href)="https?://(?![^"]*(?:furo|sphinx))', page.partition("</head>")[0])


def test_the_tests_in_the_documentation_pass(pytester):
    (pytester.path / "mypkg.py").write_text(PACKAGE)
    found = [(page, code) for page in PAGES for code in shown_tests(page)]
    for number, (page, code) in enumerate(found):
        file = pytester.path / f"test_{page.stem.replace('-', '_')}_{number}.py"
        file.write_text(f"import pytest\nfrom mypkg import MyDataset, make_loader, make_store\n{code}")
    result = pytester.runpytest_subprocess(
        "--loaderperf", "--loaderperf-alpha=0.1", "--loaderperf-budget=2", timeout=180
    )
    outcomes = result.parseoutcomes()
    assert len(found) == 4
    # A claim of an example may fail on its data, and a time may grow on a busy machine; neither must raise an error.
    assert outcomes.get("errors", 0) == 0
    failed = re.findall(r"^FAILED .*", result.stdout.str(), re.MULTILINE)
    assert [line for line in failed if "assert FAIL" not in line and "_grow - AssertionE" not in line] == []
    assert sum(outcomes.values()) >= 5


class Samples(Dataset):
    """Images and labels."""

    files = ("a",)
    labels = range(64)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.full((3, 8, 8), float(index)), index


def make_loader():
    return DataLoader(Samples(), batch_size=8)


@pytest.fixture
def bucket(page, tmp_path, monkeypatch):
    """What the page of object stores reads."""
    if page.stem != "object-stores":
        yield
        return
    from tests.data.objects.local import local_s3  # it takes a second

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with local_s3() as (_, bucket):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"x": np.arange(64)}), tmp_path / "train.parquet")
        bucket.upload(tmp_path / "train.parquet")
        yield


@pytest.fixture
def names(page, bucket, tmp_path, monkeypatch):
    """What the examples of the pages use, and files where they look for them."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    values = np.arange(64 * 12, dtype=np.float32).reshape(64, 12)
    table = pa.table({"image": pa.FixedSizeListArray.from_arrays(values.ravel(), 12), "label": np.arange(64)})
    pq.write_table(table, "cells.parquet")
    for label in "ab":
        Path("photos", label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (300, 280), (number, 0, 0)).save(f"photos/{label}/{number}.png")
    pictures = [Path(f"photos/a/{number}.png").read_bytes() for number in range(20)]
    pq.write_table(pa.table({"image": pictures, "label": np.arange(20)}), "photographs.parquet")
    keep(results.result([results.run("t.py::test_t", [results.ratio_verdict(1.0)])]), tmp_path, 0.0, 10)
    bundled = ROOT / "fixtures" / "workloads" / "images.toml"
    Path("mine.toml").write_text(re.sub(r"(?m)^samples = .*", "samples = 50", bundled.read_text("utf-8")))
    return {
        "MyDataset": Samples,
        "Photographs": Samples,
        "make_loader": make_loader,
        "other": make_loader,
        "images": values,
        "features": values,
        "labels": np.arange(64) % 5 if page.stem in {"README", "reference-loader"} else np.arange(10_000) % 5,
        "patients": np.arange(10_000) // 10,
        "table": table,
        "indices": [1, 2],
        "arrow_column": table["label"].combine_chunks(),
        "augment": lambda sample: sample,
        "mixup": lambda batch: batch,
        "warnings": warnings,
        "pytest_loaderperf": pytest_loaderperf,
        "open_table": open_table,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if scripts_of(page)], ids=lambda page: page.stem)
def test_the_scripts_in_the_documentation_run(page, names):
    for code in scripts_of(page):
        if "venv" in code or page.stem == "ray":  # another interpreter; a cluster, see tests/ray
            compile(code, str(page), "exec")
        else:
            exec(compile(code, str(page), "exec"), names)  # noqa: S102 our own examples
