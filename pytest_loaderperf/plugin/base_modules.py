"""In the child process: whether its modules are those of the worktree, and which ones are only in the checkout."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pytest_loaderperf.remote.worktree import installed

_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
_CODE = {".py", ".so", ".pyd"}


def untracked(error: str, top: Path, there: Path) -> str:
    """What to add to ``error`` if it misses a module that only the checkout has; else nothing."""
    names = _NO_MODULE.findall(error) + [f"{package}.{name}" for name, package in _NO_NAME.findall(error)]
    for entry in sys.path:
        folder = Path(entry).resolve()
        for name in names if folder.is_relative_to(there) else ():
            place = (top / folder.relative_to(there)).joinpath(*name.split("."))
            files = [*place.parent.glob(f"{place.name}.*"), *place.glob("*")]
            if file := next((file for file in files if file.suffix in _CODE), None):
                return (
                    f" The checkout has {name} ({file.relative_to(top)}), the commit has not: code that git does not "
                    "track, compiled or generated, has no base. Expected the test to import only what git tracks."
                )
    return ""


def foreign(top: Path, there: Path) -> str:
    """What is wrong with the modules' origin; nothing if all are those of the worktree at ``there``."""
    folders = [Path(entry).resolve() for entry in sys.path]
    folders = [folder for folder in folders if folder.is_relative_to(there)]
    ours = {path.stem for folder in folders for path in folder.glob("*.py")}
    ours |= {path.parent.name for folder in folders for path in folder.glob("*/__init__.py")}
    ours |= _installed_from(top)
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] == "pytest_loaderperf":
            continue
        path = Path(file).resolve()
        inside = path.is_relative_to(top) and not installed(path)
        named = name.partition(".")[0] in ours - sys.stdlib_module_names
        if (inside or named) and not path.is_relative_to(there):
            found[name] = path
    if not found:
        return ""
    shown = ", ".join(f"{name} from {path}" for name, path in list(found.items())[:3])
    return (
        f"{len(found)} modules do not come from the other commit's files, so the comparison would mean nothing: "
        f"{shown}. Expected them under {there}. Are they compiled, or imported by an absolute path? If they "
        "lie in another folder than the project's or its src, name that in pytest's ini key pythonpath."
    )


def _installed_from(top: Path) -> set[str]:
    """Modules and packages that an installer copied from the checkout ``top``."""
    names = set()
    for distribution in metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        place = urlsplit(origin.get("url", ""))
        if (
            place.scheme == "file"
            and not origin.get("dir_info", {}).get("editable")
            and Path(url2pathname(place.path)).resolve().is_relative_to(top)
        ):
            names |= {file.parts[0].partition(".")[0] for file in distribution.files or ()}
    return names
