"""The commit to compare with, also in a clone that lacks it."""

from __future__ import annotations

import pytest

from pytest_loaderperf.remote.merge_base import merge_base
from pytest_loaderperf.remote.worktree import BaseError
from suites.calibration.repository import git

BRANCHED, ON_MAIN = 3, 60  # commits: more than the first deepening fetches


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A main branch, and one that left it 60 commits ago, with a merge of both as GitHub makes it."""
    folder = tmp_path_factory.mktemp("origin")
    git(folder, "init", "--quiet")

    def commit(count, parent, name):  # without a name, two commits of one second would be the same
        tree = git(folder, "write-tree")
        for _ in range(count):
            parent = git(folder, "commit-tree", tree, *(["-p", parent] if parent else []), "-m", name)
        return parent

    parted = commit(2, None, "parted")
    main, branch = commit(ON_MAIN, parted, "main"), commit(BRANCHED, parted, "branch")
    merged = git(folder, "commit-tree", f"{main}^{{tree}}", "-p", parted, "-p", branch, "-m", "merge")
    for ref, at in (("heads/main", main), ("heads/other", branch), ("pull/1/merge", merged), ("tags/v1", parted)):
        git(folder, "update-ref", f"refs/{ref}", at)
    git(folder, "update-ref", "refs/heads/alone", commit(1, None, "alone"))
    return folder, parted


@pytest.fixture
def shallow(origin, tmp_path):
    """What actions/checkout leaves: one commit, and no branch."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "remote", "add", "origin", origin[0].as_uri())
    git(tmp_path, "fetch", "--quiet", "--depth=1", "origin", "refs/pull/1/merge")
    git(tmp_path, "checkout", "--quiet", "FETCH_HEAD")
    return tmp_path


@pytest.mark.parametrize("ref", ["origin/main", "v1"])
def test_a_shallow_clone_fetches_what_is_needed(origin, shallow, ref):
    parted = origin[1]
    assert merge_base(ref, shallow) == parted
    assert git(shallow, "cat-file", "-t", parted) == "commit"


def test_a_whole_clone_needs_no_network(origin, tmp_path):
    git(tmp_path, "clone", "--quiet", "--branch=other", origin[0].as_uri(), "clone")
    git(tmp_path / "clone", "remote", "set-url", "origin", "nowhere")
    assert merge_base("origin/main", tmp_path / "clone") == origin[1]
    assert merge_base("main", tmp_path / "clone") == origin[1]


@pytest.mark.parametrize(
    "ref, text",
    [
        ("gone", "expected a branch, tag or commit to compare with, got 'gone', which is neither here nor at origin."),
        ("alone", "HEAD and 'alone' have no commit in common. Expected a branch that HEAD was made from."),
        (" ", "expected a branch, tag or commit to compare with, got ' '. Is a variable empty?"),
        ("--upload-pack=x", "expected a branch, tag or commit to compare with, got '--upload-pack=x'."),
    ],
)
def test_an_error_says_what_is_wrong(shallow, ref, text):
    with pytest.raises(BaseError) as caught:
        merge_base(ref, shallow)
    assert str(caught.value).startswith(text)
