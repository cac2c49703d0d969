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
from tests.plugin.test_base import FAST, LOADER, SLOW, git

TEST = """
from mypkg.data import Loader

def test_speed(loaderperf):
    run = loaderperf(Loader)
    assert run.throughput <= 0.6 * run.base.throughput
"""
# As setuptools writes it for a package that lies in no folder of its own name.
FINDER = """
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING = {{"mypkg": {place!r}}}

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
    """A repository whose package lies in ``folder``: fast as committed, then slow; with the folder of its packages."""

    def make(folder):
        package = pytester.path / folder / "mypkg"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "data.py").write_text(LOADER.format(pause_s=FAST))
        (pytester.path / "test_speed.py").write_text(TEST)
        git(pytester.path, "init")
        git(pytester.path, "add", ".")
        git(pytester.path, "commit", "-m", "base")
        (package / "data.py").write_text(LOADER.format(pause_s=SLOW))
        return package

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
    (packages / "mypkg").mkdir()
    for file in package.glob("*.py"):
        (packages / "mypkg" / file.name).write_text(file.read_text())
    info = packages / "mypkg-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1\n")
    (info / "RECORD").write_text("mypkg/__init__.py,,\nmypkg/data.py,,\n")
    (info / "direct_url.json").write_text(json.dumps({"url": Path.cwd().as_uri(), "dir_info": {}}))


def install_editable(package: Path, packages: Path) -> None:
    """As setuptools does, by a hook on the import."""
    (packages / "__editable___mypkg_finder.py").write_text(FINDER.format(place=str(package)))
    (packages / "__editable__.mypkg.pth").write_text(
        "import __editable___mypkg_finder; __editable___mypkg_finder.install()"
    )


@pytest.mark.parametrize(
    "folder, install, word",
    [
        ("src", install_plainly, "*PASS  throughput <= 0.6 [*] base.throughput*"),
        ("lib", install_editable, "*PASS  throughput <= 0.6 [*] base.throughput*"),
        (
            "lib",
            install_plainly,
            "*2 modules do not come from the other commit's files*mypkg.data from *site-packages*",
        ),
    ],
)
def test_the_base_of_an_installed_package_is_the_worktrees_or_an_error(checkout, environment, folder, install, word):
    packages, measure = environment
    install(checkout(folder), packages)
    measure().stdout.fnmatch_lines([word])


def test_the_child_of_a_killed_run_ends_and_removes_its_worktree(checkout, pytester):
    package = checkout("src")
    (package / "data.py").write_text("import time\ntime.sleep(600)\n")
    git(pytester.path, "commit", "-am", "never imported to its end")
    (package / "data.py").write_text(LOADER.format(pause_s=SLOW))
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
