"""Text from outside in messages: escaped, cut, and never a line of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_loaderperf.errors import ClaimError, DataError, LoaderError, printable

HOSTILE = "a\x1b[2K\r\n3 images checked, no problems\u202e\udc80\x00\u2028\x9b1m\t\x7f"
SHOWN = "a\\x1b[2K\\r\\n3 images checked, no problems\\u202e\\udc80\\x00\\u2028\\x9b1m\\t\\x7f"


def test_what_a_terminal_would_obey_is_escaped():
    assert printable(HOSTILE) == SHOWN
    assert printable("caf\u00e9 \u65e5\u672c C:\\new") == "caf\u00e9 \u65e5\u672c C:\\new"


def test_what_is_too_long_keeps_its_ends():
    shown = printable("begin" + "x" * 10_000_000 + "end")
    assert len(shown) < 600
    assert shown.startswith("begin")
    assert shown.endswith("end (10,000,008 characters)")


@pytest.mark.parametrize("kind", [LoaderError, ClaimError])
def test_messages_of_several_lines_keep_them_and_nothing_else(kind):
    assert str(kind("one\n\ttwo\x1b[0m\udc80")) == "one\n\ttwo\\x1b[0m\\udc80"
    assert len(str(kind("x" * 10_000_000))) < 21_000


def test_a_message_about_data_is_one_line():
    assert str(DataError(f"{HOSTILE} is empty")) == f"{SHOWN} is empty"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0"}, marks=pytest.mark.slow),
    ],
)
def test_every_name_can_be_printed_in_every_encoding(tmp_path, environment):
    folder = os.fsencode(tmp_path) + "/caf\u00e9 \x1b[2K\n\udcff".encode("utf-8", "surrogateescape")
    os.mkdir(folder)  # noqa: PTH102 a name of bytes
    with open(folder + b"/\x1b]0;x\x07 no problems\n.png", "wb") as file:  # noqa: PTH123 a name of bytes
        file.write(b"no image")
    command = [sys.executable, "-c", "import sys; from pytest_loaderperf.cli import main; sys.exit(main())"]
    checked = subprocess.run(
        [*command, "data", "check", folder, "--json", "r.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 1, checked.stderr
    lines = checked.stdout.decode().splitlines()
    assert [line for line in lines if line.startswith("3 ") or line == " no problems"] == []
    assert len(lines) == 3  # a problem, what was checked, and where the result is
    assert "/\\x1b]0;x\\x07 no problems\\n.png: " in lines[0]
    assert b"\x1b" not in checked.stdout + checked.stderr
    assert "\udcff" not in (tmp_path / "r.json").read_text()
    assert b"\\udcff" in (tmp_path / "r.json").read_bytes()
