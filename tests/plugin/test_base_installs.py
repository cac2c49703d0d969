"""``run.base`` where the user's package is installed, and where the run is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import psutil
import pytest

from pytest_loaderperf.remote.worktree import Worktree
from tests.plugin.test_base import git

LOADER = """
class Loader:
    def __iter__(self):
        return iter([[0] * {size}] * 40)
"""
TEST = """
from {package}.data import Loader

def test_size(loaderperf):
    run = loaderperf(Loader)
    assert run.base.throughput.value > 0
    assert [run.rounds.sides[name].batch_samples for name in ("loader", "base")] == [2, 1]
"""
# As setuptools writes it for a package that lies in no folder of its own name.
FINDER = """
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING = {{{package!r}: {place!r}}}

class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            return spec_from_file_location(fullname, Path(MAPPING[fullname], "__init__.py"))

def install():
    sys.meta_path.append(_EditableFinder)
"""
MEASURE = ("-m", "pytest", "--loaderperf", "--loaderperf-base=HEAD", "-p", "no:cacheprovider")


@pytest.fixture
def checkout(pytester):
    """A repository with packages, each in its folder: one sample a batch as committed, then two; and their folders."""

    def make(**folders):
        packages = [pytester.path / folder / package for package, folder in folders.items()]
        for package in packages:
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            (package / "data.py").write_text(LOADER.format(size=1))
            (pytester.path / f"test_{package.name}.py").write_text(TEST.format(package=package.name))
        git(pytester.path, "init")
        git(pytester.path, "add", ".")
        git(pytester.path, "commit", "-m", "base")
        for package in packages:
            (package / "data.py").write_text(LOADER.format(size=2))
        return packages

    return make


@pytest.fixture
def environment(pytester, tmp_path):
    """A virtual environment that has all that ours has: its site-packages, and a function that measures in it."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours))
    return packages, lambda: pytester.run(folder / "bin" / "python", *MEASURE)


def install_plainly(package: Path, packages: Path) -> None:
    """As pip does from a folder."""
    name = package.name
    (packages / name).mkdir()
    for file in package.glob("*.py"):
        (packages / name / file.name).write_text(file.read_text())
    info = packages / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}/data.py,,\n")
    (info / "direct_url.json").write_text(json.dumps({"url": Path.cwd().as_uri(), "dir_info": {}}))


def install_editable(package: Path, packages: Path) -> None:
    """As setuptools does, by a hook on the import."""
    name = package.name
    (packages / f"__editable___{name}_finder.py").write_text(FINDER.format(package=name, place=str(package)))
    (packages / f"__editable__.{name}.pth").write_text(
        f"import __editable___{name}_finder; __editable___{name}_finder.install()"
    )


@pytest.mark.slow
def test_the_base_of_an_installed_package_is_the_worktrees(checkout, environment):
    packages, measure = environment
    plain, editable = checkout(plain="src", editable="lib")
    install_plainly(plain, packages)
    install_editable(editable, packages)
    measure().assert_outcomes(passed=2)


@pytest.mark.slow
def test_the_base_of_an_installed_package_that_cannot_be_the_worktrees_is_an_error(checkout, environment):
    packages, measure = environment
    install_plainly(*checkout(mypkg="lib"), packages)
    words = "*2 modules do not come from the other commit's files*mypkg.data from *site-packages*"
    measure().stdout.fnmatch_lines([words])


@pytest.mark.slow
def test_the_child_of_a_killed_run_ends_and_removes_its_worktree(checkout, pytester):
    (package,) = checkout(mypkg="src")
    (package / "data.py").write_text("import time\ntime.sleep(600)\n")
    git(pytester.path, "commit", "-am", "never imported to its end")
    (package / "data.py").write_text(LOADER.format(size=2))
    own = pytester.path / "temporary"
    own.mkdir()
    path = {"PYTHONPATH": os.pathsep.join([str(package.parent), *sys.path]), "TMPDIR": str(own)}
    killed = subprocess.Popen([sys.executable, *MEASURE], env=os.environ | path, stdout=subprocess.DEVNULL)
    run = psutil.Process(killed.pid)
    (child,) = until(lambda: [child for child in run.children() if serves(child)])
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list(own.glob("loaderperf-base-*"))
    assert until(lambda: has_ended(child))
    assert not list(own.glob("loaderperf-base-*"))
    assert until(lambda: not list(Path(".loaderperf").glob("base-*")))
    Worktree("HEAD", pytester.path).close()
    assert not list(Path(".loaderperf").glob("base-*"))
    assert len(git(pytester.path, "worktree", "list").splitlines()) == 1


def serves(process: psutil.Process) -> bool:
    """Whether it is a child that collects tests, and no git of the moment."""
    try:
        return any("base_child" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def has_ended(process: psutil.Process) -> bool:
    """Also where nobody has taken note of its end."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition, seconds=30.0):
    """What the condition gives, once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result
