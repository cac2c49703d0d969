"""Action, workflows and the examples of the page: linted without a network, by linters that do find mistakes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suites.actions.repository import ROOT, examples
from suites.actions.run import COMMIT

EXAMPLES = ("comment.yml", "gpu.yml", "perf.yml")
BIN = Path(sys.executable).parent


def run(folder, tool, *arguments):
    return subprocess.run([BIN / tool, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def problems(folder):
    """What the linters say about the workflows and the actions in ``folder``; nothing if all is well."""
    workflows = sorted(map(str, folder.glob(".github/workflows/*.yml")))
    actions = sorted(map(str, folder.glob("**/action.yml")))
    done = [
        run(folder, "zizmor", "--offline", "--quiet", "--no-progress", *workflows, *actions),
        run(folder, "actionlint", "-no-color", *workflows),
        run(folder, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows),
    ]
    if actions:
        done.append(run(folder, "check-jsonschema", "--builtin-schema", "vendor.github-actions", *actions))
    return "".join(one.stdout + one.stderr for one in done if one.returncode)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A copy of what GitHub reads of this repository."""
    folder = tmp_path_factory.mktemp("ours")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    shutil.copytree(ROOT / ".github", folder / ".github")
    shutil.copy(ROOT / "action.yml", folder)
    return folder


def test_our_actions_and_workflows_are_well(ours):
    assert problems(ours) == ""


def test_the_examples_of_the_page_are_well(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".github/workflows").mkdir(parents=True)
    found = examples()
    assert sorted(found) == sorted(EXAMPLES)
    for name, text in found.items():
        (tmp_path / ".github/workflows" / name).write_text(text.replace("@COMMIT", f"@{COMMIT} # v1"))
    assert problems(tmp_path) == ""


def test_the_example_of_the_gate_is_short():
    assert len(examples()["perf.yml"].splitlines()) <= 25


MISTAKES = (  # file, right, wrong, and what a linter says
    ("action.yml", 'echo "$PULL_REQUEST"', "echo ${{ inputs.path }}", "template-injection"),
    (".github/workflows/ci.yml", "@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "@v5", "unpinned-uses"),
    (".github/workflows/perf.yml", "timeout-minutes", "timeout-minuets", "timeout-minuets"),
    (".github/workflows/gpu.yml", "needs.where.outputs.runner", "needs.where.outputs.label", '"label" is not defined'),
    (".github/workflows/asv.yml", "contents: read", "contents: all", "'all' is not one of"),
    (".github/actions/comment/action.yml", "description: Name", "describe: Name", "'describe' was unexpected"),
)


def test_mistakes_are_found(ours, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(ours, broken)
    for file, right, wrong, _ in MISTAKES:
        text = (broken / file).read_text()
        assert right in text
        (broken / file).write_text(text.replace(right, wrong))
    found = problems(broken)
    assert [said for _, _, _, said in MISTAKES if said not in found] == [], found


def steps():
    for path in [ROOT / "action.yml", *ROOT.glob(".github/**/*.yml")]:
        document = yaml.safe_load(path.read_text())
        for job in [document.get("runs"), *document.get("jobs", {}).values()]:
            yield from (job or {}).get("steps", [])


def test_inputs_reach_the_shell_only_as_variables():
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_actions_of_others_are_pinned_by_commit_with_their_version():
    for path in [ROOT / "action.yml", *ROOT.glob(".github/**/*.yml"), ROOT / "docs" / "github-actions.md"]:
        for line in re.findall(r"uses: (actions/.*)", path.read_text()):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_arguments_with_an_open_quote_are_refused_by_the_name_of_the_input(tmp_path):
    steps = {step.get("id"): step for step in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]}
    variables = dict.fromkeys(steps["measure"]["env"], "") | {"FOLDER": str(tmp_path / "out"), "ARGUMENTS": "-k 'x"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps["measure"]["run"]]
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": path, **variables}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "args: expected arguments that are quoted as in a shell, got -k 'x\n"
