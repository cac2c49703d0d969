"""The pictures of the documentation, made anew: what a terminal and a browser show of a small project.

    python -m suites.screenshots [--folder docs]

Its loader has become slower since the last commit. Chromium, without a window, makes the pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from suites.calibration.repository import git

WIDTH = 100  # columns of the terminal
LINE_PX, CHAR_PX, PAD_PX = 19, 8.5, 12
PAGE_PX = (1100, 900)
_OVERWRITTEN = re.compile(r"\x1b7.*?\x1b8")  # progress, between saving the cursor's place and going back to it
COLORS = 128  # of a picture: as many as text needs
MOST_NBYTES = 150_000
ROOT = Path(__file__).parents[2]
DATA = """
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    def __init__(self, path="rows.npy"):
        self.path = path
        self.rows = np.load(path, mmap_mode="r")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return torch.from_numpy(row / 255)


def make_loader():
    return DataLoader(Rows(), batch_size=32)
"""
SLOWER = DATA.replace("row = self.rows[index]", "row = np.load(self.path)[index]")
TESTS = """
from mypkg.data import make_loader
from pytest_loaderperf import s


def test_no_regression(loaderperf):
    run = loaderperf(make_loader)
    assert run.throughput >= 0.95 * run.base.throughput


def test_keeps_up(loaderperf):
    run = loaderperf(make_loader)
    assert run.batch_latency.p50 <= 2 * s
"""
FONT = f'padding: {PAD_PX}px; font: 14px/{LINE_PX}px "DejaVu Sans Mono", monospace'
TERMINAL = f"""<!DOCTYPE html><meta charset="utf-8"><style>
body {{{{ margin: 0; background: {{background}}; color: {{foreground}}; }}}}
pre {{{{ margin: 0; {FONT}; }}}}
{{stylesheet}}</style><pre>{{code}}</pre>"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where they go, default docs")
    folder = parser.parse_args().folder
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("expected chromium, got none on the PATH: install it, for example with apt install chromium")
    with TemporaryDirectory(prefix="loaderperf-screenshots-") as name:
        work = Path(name)
        project = work / "project"
        make_project(project)
        measure = ["-m", "pytest", "-q", "--loaderperf", "--loaderperf-base=HEAD", "--loaderperf-html=report.html"]
        shown = {
            "failure": terminal([*measure, "-p", "no:cacheprovider"], project),
            "doctor": terminal(["-m", "loaderperf_command", "doctor", "mypkg.data:make_loader"], project),
        }
        for picture, text in shown.items():
            page = work / f"{picture}.html"
            lines, html = as_html(text)
            page.write_text(html, "utf-8")
            size = (round(WIDTH * CHAR_PX) + 2 * PAD_PX, LINE_PX * lines + 2 * PAD_PX)
            take(browser, page, size, folder / f"{picture}.png", work)
        take(browser, project / "report.html", PAGE_PX, folder / "report.png", work)


def make_project(project: Path) -> None:
    """A repository whose loader is slow in a file that is not committed."""
    import numpy as np

    (project / "mypkg").mkdir(parents=True)
    (project / "mypkg" / "data.py").write_text(DATA.lstrip())
    (project / "test_data.py").write_text(TESTS.lstrip())
    (project / "loaderperf_command.py").write_text(
        "from pytest_loaderperf.cli import main\n\nraise SystemExit(main())\n"
    )
    (project / ".gitignore").write_text("rows.npy\n.loaderperf\n")
    np.save(project / "rows.npy", np.random.default_rng(0).random((512, 4096), dtype=np.float32))
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "A loader that maps its file")
    (project / "mypkg" / "data.py").write_text(SLOWER.lstrip())


def terminal(arguments: list[str], project: Path) -> str:
    """What a Python command writes to a terminal, with its colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(WIDTH), "LINES": "60", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=project,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        os.close(theirs)
        written = b""
        while part := _read(ours):
            written += part
        status = process.wait()
    os.close(ours)
    if status not in (0, 1):
        sys.exit(f"{' '.join(arguments)}: expected status 0 or 1, got {status}:\n{written.decode()}")
    shown = _OVERWRITTEN.sub("", written.decode().replace("\r\n", "\n"))
    return shown.strip("\n").replace(f"{project}/", "")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # its other end is closed
        return b""


def as_html(text: str) -> tuple[int, str]:
    """A terminal's text as a page, and how many lines it has there."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text.from_ansi(text))
    lines = len(console.export_text(clear=False).splitlines())
    return lines, console.export_html(theme=MONOKAI, code_format=TERMINAL)


def take(browser: str, page: Path, size: tuple[int, int], picture: Path, work: Path) -> None:
    """Take ``picture`` of ``page``, ``size`` pixels large."""
    raw = work / "raw.png"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=8000",
    ]
    command += [f"--user-data-dir={work / 'profile'}", f"--window-size={size[0]},{size[1]}", f"--screenshot={raw}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=300)
    with Image.open(raw) as image:
        image.convert("RGB").quantize(COLORS).save(picture, optimize=True)
    nbytes = picture.stat().st_size
    print(f"{picture}: {nbytes:,} bytes")
    if nbytes > MOST_NBYTES:
        sys.exit(f"{picture}: expected at most {MOST_NBYTES:,} bytes, got {nbytes:,}")


if __name__ == "__main__":
    main()
