"""The ``loaderperf`` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_loaderperf import cli

MODULE = """
import torch
BATCH = torch.zeros(4, 8)
def make_loader():
    return [BATCH] * 12
class Lazy:
    shape = (4, 8)
    @property
    def rows(self):
        READ.append(1)
READ = []
def make_lazy():
    return [Lazy()] * 12
def read(batch):
    batch.rows
def three(batch):
    return 3
class Made:
    make = staticmethod(make_loader)
def broken():
    raise OSError("disk gone")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder outside the repository with a module of loaders."""
    (tmp_path / "my_loaders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_loaders", None)


@pytest.mark.parametrize("spec", ["my_loaders:make_loader", "my_loaders:Made.make"])
def test_bench_prints_the_numbers_as_a_table(folder, capsys, spec):
    assert cli.main(["bench", spec, "--budget", "0.3"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split()[:5] == ["loader", "samples/s", "p50", "p99", "TTFB"]
    assert lines[1].startswith(f"{spec}  (")
    assert lines[2].startswith("loader: list ")
    assert lines[3].startswith("roofline ")
    assert shown.err == ""


def test_bench_measures_another_loader_beside_it_and_writes_the_result(folder, capsys):
    arguments = [
        "my_loaders:make_loader",
        "--against",
        "my_loaders:Made.make",
        "--budget",
        "0.3",
        "--json",
        "out/r.json",
    ]
    assert cli.main(["bench", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "against: list " in shown
    assert "result written to out/r.json" in shown
    document = json.loads((folder / "out/r.json").read_text())
    assert (document["schema"], document["partial"]) == ("loaderperf/1", False)
    assert document["runs"][0]["nodeid"] == "my_loaders:make_loader"
    assert document["runs"][0]["metrics"]["against_ratio"]["unit"] == "1"


def test_bench_takes_how_batches_are_counted_and_read(folder, capsys):
    arguments = [
        "my_loaders:make_lazy",
        "--count",
        "my_loaders:three",
        "--touch",
        "my_loaders:read",
        "--json",
        "r.json",
    ]
    assert cli.main(["bench", *arguments, "--budget", "0.3"]) == 0
    assert json.loads((folder / "r.json").read_text())["runs"][0]["batch_size"] == 3
    assert len(sys.modules["my_loaders"].READ) >= 20
    assert "if they are lazy" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--count", "my_loaders"], "expected MODULE:FUNCTION such as mypkg.data:read_batch, got 'my_loaders'."),
        (
            ["--touch", "my_loaders:no"],
            "'my_loaders' has no 'no'. Give the name of a function of a batch, for --touch.",
        ),
        (["--touch", "my_loaders:READ"], "--touch my_loaders:READ: expected a function that takes a batch, got list."),
        (
            ["--touch", "my_loaders:read"],
            "touch=read raised AttributeError: 'Tensor' object has no attribute 'rows', for",
        ),
    ],
)
def test_a_function_of_batches_that_cannot_be_used_ends_with_1_and_says_why(folder, capsys, arguments, words):
    assert cli.main(["bench", "my_loaders:make_loader", *arguments, "--budget", "0.3"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "spec, words",
    [
        ("my_loaders", "expected MODULE:FACTORY such as mypkg.data:make_loader, got 'my_loaders'."),
        (":make_loader", "expected MODULE:FACTORY such as mypkg.data:make_loader, got ':make_loader'."),
        ("my_loaders:", "expected MODULE:FACTORY such as mypkg.data:make_loader, got 'my_loaders:'."),
        (
            "no_such_module:make",
            "cannot import 'no_such_module': No module named 'no_such_module'. Run this where that module can be",
        ),
        (
            "my_loaders:no_such_name",
            "'my_loaders' has no 'no_such_name'. Give the name of the function that makes the loader.",
        ),
        ("my_loaders:BATCH.nothing", "'my_loaders' has no 'BATCH.nothing'."),
        ("my_loaders:broken", "the loader factory broken() raised OSError: disk gone."),
    ],
)
@pytest.mark.parametrize("against", [False, True])
def test_a_loader_that_cannot_be_had_ends_with_1_and_says_why(folder, capsys, spec, words, against):
    arguments = ["my_loaders:make_loader", "--against", spec] if against else [spec]
    assert cli.main(["bench", *arguments, "--budget", "0.3"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("loaderperf: ")
    assert (
        words.replace("the loader factory", "the against loader factory" if against else "the loader factory")
        in shown.err
    )
    assert shown.out == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "the following arguments are required: COMMAND"),
        (["bench"], "the following arguments are required: MODULE:FACTORY"),
        (["bench", "m:f", "--budget", "0"], "expected a positive number of seconds such as 10, got '0'"),
        (["bench", "m:f", "--budget", "x"], "expected a positive number of seconds such as 10, got 'x'"),
        (["bench", "m:f", "--device", "tpu"], "expected one of cpu, cuda, auto, got 'tpu'"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_a_usage_error_ends_with_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_result_that_cannot_be_written_ends_with_1(folder, capsys):
    (folder / "file").write_text("")
    assert cli.main(["bench", "my_loaders:make_loader", "--budget", "0.3", "--json", "file/r.json"]) == 1
    assert "loaderperf: cannot write file/r.json: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_installed_command_works_in_any_folder(tmp_path):
    (tmp_path / "my_loaders.py").write_text(MODULE)
    command = [Path(sys.executable).parent / "loaderperf", "bench", "my_loaders:make_loader", "--budget", "0.3"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "loader: list" in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip().startswith("0.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["data", "list"], ["bench", "my_loaders:make_loader", "--budget", "0.3"]])
def test_output_that_cannot_be_written_ends_with_1_and_says_why(folder, arguments, quick_start):
    command = [sys.executable, "-c", "import sys; from pytest_loaderperf.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    with open("/dev/full", "w") as full:  # noqa: PTH123 a device
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment
        )
    assert ended.returncode == 1
    assert ended.stderr == (
        "loaderperf: the system refused what is needed: [Errno 28] No space left on device. "
        "Free some space on that disk.\n"
    )


@pytest.mark.parametrize("name", ["mine.py", "data.json"])
def test_a_file_that_is_no_result_is_not_replaced_by_one(folder, capsys, name):
    (folder / name).write_text('{"labels": [1]}')
    assert cli.main(["bench", "my_loaders:make_loader", "--budget", "0.3", "--json", name]) == 1
    assert f"--json: {name} was not written by loaderperf, so it is not replaced." in capsys.readouterr().err
    assert (folder / name).read_text() == '{"labels": [1]}'


def test_a_result_is_replaced_by_the_next(folder):
    for _ in range(2):
        assert cli.main(["bench", "my_loaders:make_loader", "--budget", "0.3", "--json", "r.json"]) == 0


@pytest.mark.parametrize(
    ("command", "then"),
    [("doctor", ""), ("bench", "except BaseException: raise RecursionError")],  # as NumPy does
    ids=["as it is", "turned into another error"],
)
def test_an_interrupt_while_torch_is_imported_says_so_in_one_line(tmp_path, command, then):
    interrupts = (
        f"import os, signal, time\ntry: os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n{then or 'finally: pass'}"
    )
    (tmp_path / "torch.py").write_text(interrupts)
    code = "import sys; from pytest_loaderperf.cli import main; sys.exit(main(sys.argv[1:]))"
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", code, command, "some:loader"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "loaderperf: interrupted\n")


@pytest.mark.parametrize(
    "arguments, kind",
    [(["mine"], "FACTORY"), (["mine:f", "--against", "g"], "FACTORY"), (["mine:f", "--touch", "g:"], "FUNCTION")],
)
def test_ray_refuses_what_is_no_name_before_a_cluster_starts(arguments, kind, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["ray", *arguments, "--workers", "2"]) == 1
    assert f"expected MODULE:{kind} such as" in capsys.readouterr().err
