"""How pytest was called here, and how it is called the same way in the worktree of another commit."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_loaderperf.measurement.tracing import COVERAGE_ENVIRONMENT

ARGUMENTS_KEY = "loaderperf_arguments"  # in what xdist's controller sends its worker
_CHECKOUT = "<checkout>"  # replaces either folder in names of both sides
_PATH = r"(?<![^=:,;@\s'\"]){top}(?P<rest>(?:/[^:,;\s'\"]*)?)(?=[:,;\s'\"]|$)"
_FLAGS = {
    "debug": "d",
    "optimize": "O",
    "dont_write_bytecode": "B",
    "no_user_site": "s",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
}

_REPORTS = ("GITHUB_STEP_SUMMARY",)
_CUT = "--confcutdir"  # folders above it have no conftest.py
# Files in which pytest looks for its configuration, and the section that must be in them; empty: none is needed.
_INI_SECTIONS = {
    **dict.fromkeys(("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"), ""),
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}


class Places:
    """The checkout ``top`` and its worktree ``there``; ``seen`` are other paths to its folders."""

    def __init__(self, top: Path, there: Path, seen: Sequence[Path]) -> None:
        self.top, self.there = top, there
        around = [folder for path in seen for folder in (path, *path.parents)]
        tops = dict.fromkeys([top, *(folder for folder in around if folder.resolve() == top)])
        self._tops = sorted(tops, key=lambda folder: -len(str(folder)))
        # The worktree is inside the checkout; pytest escapes characters that are not ASCII in a test's id.
        spelled = [str(folder) for folder in (there, *self._tops)]
        self.spelled = list(dict.fromkeys([*spelled, *(text.encode("unicode_escape").decode() for text in spelled)]))

    def path(self, path: Path) -> Path | None:
        """The path in the worktree for a path in the checkout; None outside. Links inside stay links."""
        for top in self._tops:
            if path.is_relative_to(top):
                return self.there / path.relative_to(top)
        path = path.resolve()
        return self.there / path.relative_to(self.top) if path.is_relative_to(self.top) else None

    def text(self, text: str) -> str:
        """``text`` with the checkout's paths replaced by the worktree's, except those that are only missing there."""

        def moved(match: re.Match[str]) -> str:
            there = f"{self.there}{match['rest']}"
            here = match[0]
            return there if Path(there).exists() or not Path(here).exists() else here

        for top in self._tops:
            text = re.sub(_PATH.format(top=re.escape(str(top))), moved, text)
        return text


def neutral(text: str, spelled: Sequence[str]) -> str:
    """``text``, such as a test's id, without its folder, so that it is the same on both sides."""
    for folder in spelled:
        text = text.replace(folder, _CHECKOUT)
    return text


@dataclass(frozen=True, slots=True)
class Invocation:
    """How pytest was called: in ``folder``, with ``arguments`` and ``environment``, and how it understood them.

    ``environment`` is that of pytest's start, before this checkout's code and tests changed it.
    ``root`` is its rootdir, ``ini_file`` what ``-c`` named, ``found`` the ini file that it used, ``shown``
    whether tests print to its own output, ``own`` are options that the child always has.
    """

    root: Path
    folder: Path
    arguments: Sequence[str]
    environment: Mapping[str, str]
    ini_file: Path | None
    found: Path | None
    shown: bool
    own: Sequence[str]

    @classmethod
    def of(cls, config: Any, environment: Mapping[str, str], *, device: str, timeout_seconds: float) -> Invocation:
        """The invocation of this run; under xdist, of its controller."""
        arguments = getattr(config, "workerinput", {}).get(ARGUMENTS_KEY, config.invocation_params.args)
        plugins = config.invocation_params.plugins or ()
        ini_name = config.getoption("inifilename")
        own = ["--loaderperf", f"--import-mode={config.getoption('importmode')}", f"--loaderperf-device={device}"]
        own += [f"--override-ini=loaderperf_timeout={timeout_seconds}"]
        return cls(
            root=config.rootpath,
            folder=config.invocation_params.dir,
            arguments=[*(f"-p{plugin}" for plugin in plugins if isinstance(plugin, str)), *map(os.fspath, arguments)],
            environment=environment,
            ini_file=None if ini_name is None else config.invocation_params.dir / ini_name,
            found=config.inipath,
            shown=config.getoption("capture") == "no",
            own=own + ["-p", "no:cacheprovider"] * (not config.pluginmanager.has_plugin("cacheprovider")),
        )

    def command(self, places: Places, folder: Path) -> list[str]:
        """The command for the worktree, with its own files in ``folder``: interpreter, options and arguments.

        The child itself leaves out what belongs only to this run, such as reports: see base_child.
        """
        root = self.root_there(places)
        given = [self._moved(argument, places) for argument in self.arguments if not _writes_while_parsed(argument)]
        end = given.index("--") if "--" in given else len(given)
        own = [*self.own, f"--rootdir={root}"]
        own += [] if "no:cacheprovider" in self.own else [f"--override-ini=cache_dir={folder / 'cache'}"]
        own += self._ini_options(places, given[:end] + given[end + 1 :], folder)
        # -P: its start folder is on its path only in the place where it is on ours.
        started = [
            sys.executable,
            *interpreter_options(),
            "-P",
            "-m",
            "pytest",
            "-p",
            "pytest_loaderperf.plugin.base_child",
        ]
        return [*started, *given[:end], *own, *given[end:]]

    def _ini_options(self, places: Places, given: Sequence[str], folder: Path) -> list[str]:
        """Options that make the commit's ini file that of the child, and no ini file or conftest.py of the checkout.

        pytest looks for them in all folders above, and the worktree is inside the checkout.
        """
        cut = [] if any(argument.startswith(_CUT) for argument in given) else [f"{_CUT}={places.there}"]
        if self.ini_file is not None:
            there = _ini_there(self.ini_file, places)
            return ["-c", str(there), *(cut if places.there.is_relative_to(there.parent) else [])]
        if self.found is None:
            return []
        if places.path(self.found) is None:
            return cut if places.top.is_relative_to(self.found.parent) else []
        if self._has_ini(places, given):
            return []
        empty = folder / "pytest.ini"
        empty.write_text("[pytest]\n", encoding="ascii")
        return ["-c", str(empty), *cut]

    def _has_ini(self, places: Places, given: Sequence[str]) -> bool:
        """Whether pytest, called with ``given``, may find an ini file in the worktree."""
        start = self.folder_there(places)
        named = [start / argument.partition("::")[0] for argument in given if not argument.startswith("-")]
        around = {folder for path in (start, *named) for folder in (path, *path.parents)}
        return any(_configures(folder) for folder in around if folder.is_relative_to(places.there))

    def root_there(self, places: Places) -> Path:
        """The rootdir in the worktree."""
        return places.path(self.root) or places.there

    def folder_there(self, places: Places) -> Path:
        """Where the child starts: in the same folder of the worktree, so that relative paths work there, too."""
        folder = places.path(self.folder)
        if folder is None or not _lies_in(folder, places.there):
            return self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _moved(self, argument: str, places: Places) -> str:
        if places.path(self.folder) is None:  # the child also starts outside, where relative paths lead to the checkout
            option, equals, value = argument.rpartition("=")
            path = self.folder / value.partition("::")[0]
            if value and path.exists() and places.path(path) is not None:
                argument = f"{option}{equals}{self.folder / value}"
        return places.text(argument)


def _writes_while_parsed(argument: str) -> bool:
    return argument == "--debug" or argument.startswith(("--debug=", "--benchmark-json="))


def _ini_there(file: Path, places: Places) -> Path:
    """The ini file in the worktree; ours if the commit has none of that name."""
    there = places.path(file)
    if there is None or not _lies_in(there, places.there):
        return file
    if not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    return there


def _configures(folder: Path) -> bool:
    """Whether pytest takes its configuration from a file in ``folder``."""
    for name, section in _INI_SECTIONS.items():
        file = folder / name
        if file.is_file() and section in file.read_text(encoding="utf-8", errors="replace"):
            return True
    return False


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether ``path`` is in ``folder`` or can be made there, not through a link."""
    return path.exists() or path.resolve().is_relative_to(folder.resolve())


def interpreter_options() -> list[str]:
    """The options of this interpreter that change how code runs."""
    flags = [f"-{letter * getattr(sys.flags, name)}" for name, letter in _FLAGS.items() if getattr(sys.flags, name)]
    options = [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]  # noqa: SLF001 there is no other way to see them
    return [*flags, *options, *(f"-W{option}" for option in sys.warnoptions)]


def environment(given: Mapping[str, str], places: Places, import_path: Sequence[str]) -> dict[str, str]:
    """``given``, without variables that start coverage or name a report, and with paths into the worktree."""

    def kept(name: str) -> bool:
        deaf = sys.flags.ignore_environment and name.startswith("PYTHON")
        return not deaf and name not in (*COVERAGE_ENVIRONMENT, *_REPORTS)

    inherited = {name: value for name, value in given.items() if kept(name)}
    addopts = {name: places.text(inherited[name]) for name in ("PYTEST_ADDOPTS",) if name in inherited}
    return {**inherited, **addopts, "PYTHONPATH": os.pathsep.join(import_path)}
