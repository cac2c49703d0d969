"""``loaderperf report``: results as a page, and errors for what is no result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pytest_loaderperf.cli import main
from pytest_loaderperf.report import write_json
from tests.report import results

IDENTITY = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]


@pytest.fixture
def result(tmp_path, monkeypatch):
    """A folder with one result, which is the current one."""
    monkeypatch.chdir(tmp_path)
    runs = [results.run("test_a.py::test_b[<script>]", [results.ratio_verdict(0.9)], batches=40)]
    write_json(results.result(runs), tmp_path / "it's a\u00dc result.json")
    return "it's a\u00dc result.json"


def test_one_result_becomes_a_page(result, tmp_path, capsys):
    assert main(["report", result, "-o", "out/of the way.html"]) == 0
    assert capsys.readouterr().out == "report written to out/of the way.html\n"
    text = (tmp_path / "out" / "of the way.html").read_text("utf-8").replace("<wbr>", "")
    assert text.startswith("<!DOCTYPE html>")
    assert "test_b[&lt;script&gt;]" in text
    assert "Side by side" not in text


def test_several_results_become_one_page_and_go_to_standard_output_without_a_file(result, capsys):
    assert main(["report", result, result, "--format", "html"]) == 0
    text = capsys.readouterr().out
    assert "Side by side" in text
    assert text.endswith("</html>\n")


def test_results_are_added_to_those_of_asv(result, tmp_path, capsys):
    for arguments in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    write_json(json.loads((tmp_path / result).read_text()) | {"commit": commit}, tmp_path / "of_commit.json")
    assert main(["report", "of_commit.json", "--format", "asv", "-o", "asv"]) == 0
    assert len(list((tmp_path / "asv").glob(f"*/{commit[:8]}-*.json"))) == 1
    with (tmp_path / result).open("a") as tracked:
        tracked.write("\n")
    assert main(["report", "of_commit.json", "--format", "asv", "-o", "other"]) == 1
    assert "of_commit.json: 1 file differs from commit" in (told := capsys.readouterr().err)
    assert told.endswith("Nothing was written. Put the changes aside (git stash), and write again.\n")
    assert not (tmp_path / "other").exists()
    assert main(["report", "of_commit.json", "--format", "asv"]) == 1
    assert "--format asv: expected -o DIR" in capsys.readouterr().err


ODD = {"schema": "loaderperf/1", "runs": [], "machine": {}, "alpha": 0.1, "partial": False, "base_commit": None}
EXPECTED = "expected a result of --loaderperf-json (loaderperf/1), got"
ANOTHER = "one that was changed or is of another version"
FOREIGN = {
    "gone.json": (None, "cannot read gone.json: No such file or directory"),
    "cut.json": ('{"schema": "loa', f"cut.json: {EXPECTED} a file that is cut off or is not JSON: "),
    "old.json": ('{"schema": "loaderperf/0"}', f"old.json: {EXPECTED} a result of version 0: use the version of "),
    "odd.json": (json.dumps(ODD), f"odd.json: {EXPECTED} {ANOTHER}. commit: expected a text, got nothing. Me"),
    "odder.json": (
        json.dumps(ODD | {"commit": "1", "runs": [7]}),
        f"odder.json: {EXPECTED} {ANOTHER}. runs[0]: expected an ",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_result_is_an_error(name, result, tmp_path, capsys):
    content, error = FOREIGN[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["report", result, name, "-o", "page.html"]) == 1
    assert capsys.readouterr().err.startswith(f"loaderperf: {error}")
    assert not (tmp_path / "page.html").exists()


def test_a_result_is_never_replaced(result, capsys):
    assert main(["report", result, "-o", result]) == 1
    told = f"loaderperf: -o: {result} is a result, which a report does not replace. Give another path.\n"
    assert capsys.readouterr().err == told
    assert main(["report", result]) == 0


def test_a_page_replaces_only_a_page(result, tmp_path, capsys):
    (tmp_path / "test_mine.py").write_text("def test_it(): ...\n")
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>mine</title>")
    for name in ("test_mine.py", "index.html"):
        before = (tmp_path / name).read_text()
        assert main(["report", result, "-o", name]) == 1
        told = (
            f"loaderperf: -o: {name} was not written by loaderperf, so it is not replaced. Give another path, or remove"
        )
        assert capsys.readouterr().err.startswith(told)
        assert (tmp_path / name).read_text() == before
    assert [main(["report", result, "-o", "page.html"]) for _ in range(2)] == [0, 0]


def test_a_place_that_cannot_be_written_is_an_error(result, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert main(["report", result, "-o", "folder"]) == 1
    assert capsys.readouterr().err == (
        "loaderperf: -o: cannot write folder. Expected the path of a file in a writable folder.\n"
    )
    assert main(["report", result, "-o", f"{result}/page.html"]) == 1
    assert "loaderperf: cannot write" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a folder of Linux")  # noqa: S108
def test_shared_memory_is_a_folder_as_others(result, capsys):
    with TemporaryDirectory(dir="/dev/shm") as folder:
        assert main(["report", result, "-o", f"{folder}/page.html"]) == 0
    assert main(["report", result, "-o", "/dev/page.html"]) == 1


def test_an_empty_path_is_bad_usage(result, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", result, "-o", ""])
    assert ended.value.code == 2
    assert "argument -o/--output: expected a path, got an empty text" in capsys.readouterr().err


def test_an_unknown_format_is_bad_usage(result, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", result, "--format", "pdf"])
    assert ended.value.code == 2
    assert "invalid choice: 'pdf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["doctor", "mypkg:make", "--trace"],
        ["doctor", "mypkg:make", "--json"],
        ["compare", "result.json", "result.json", "--json"],
        ["history", "--json"],
    ],
)
def test_a_result_is_not_replaced_by_another_kind_of_document(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_json(results.result([]), tmp_path / "result.json")
    before = (tmp_path / "result.json").read_bytes()
    assert main([*command, "result.json"]) != 0
    assert "result.json is a loaderperf document, which is not replaced by another kind" in capsys.readouterr().err
    assert (tmp_path / "result.json").read_bytes() == before


def test_a_reader_that_has_enough_ends_the_command_without_a_word(result, quick_start):
    code = f"import sys; from pytest_loaderperf.cli import main; sys.exit(main(['report', {result!r}]))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)
