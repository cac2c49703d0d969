"""Without pyarrow, which the extra ``tables`` brings, loaders are measured, and tables say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("quick_start")
LACKING = "import sys; assert 'pyarrow' not in sys.modules; sys.modules['pyarrow'] = None\n"
MEASURED = """
import torch
from torch.utils.data import DataLoader
from pytest_loaderperf import ReferenceLoader, measure, optimize

class Rows:
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.full((3,), float(index)), index

assert optimize(Rows())[3][1] == 3
with measure(lambda: DataLoader(Rows(), 8), lambda: ReferenceLoader({"x": torch.zeros(64, 3)}, 8), budget=0.2) as run:
    assert run.throughput.value > 0 and run.roofline.throughput.value > 0
"""
TABLES = {
    "open_table": "from pytest_loaderperf.data.formats import open_table",
    "open_pictures": "from pytest_loaderperf.data.encoded.pictures import open_pictures",
    "check": "from pytest_loaderperf.data import check; check('table.parquet')",
}


def run(text: str, folder: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LACKING + text], cwd=folder, capture_output=True, text=True, check=False
    )


def test_loaders_are_measured(tmp_path):
    assert run(MEASURED, tmp_path).stderr == ""


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_say_what_to_install(text, tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    last = run(text, tmp_path).stderr.splitlines()[-1]
    assert "DataError: tables need pyarrow, which is not installed: pip install 'pytest-loaderperf[tables]'" in last
