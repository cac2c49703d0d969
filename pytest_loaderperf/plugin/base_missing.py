"""In the child process: whether a test that was not collected exists nevertheless."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

_ANY = "*"  # what a star import may define
_SHOWN = 3  # cases: enough to see the difference


def why_missing(file: Path, inside: str, collected: Iterable[str], deselected: Iterable[str]) -> str:
    """Why the test ``inside`` (its id after the file's) was not collected from ``file``; nothing if it does not exist.

    ``collected`` and ``deselected`` are such ids of that file's tests.
    """
    name = inside.partition("[")[0]
    if any(other.partition("[")[0] == name for other in deselected):
        return "it was deselected there (-m, -k, --deselect)"
    if others := sorted(other for other in collected if other.partition("[")[0] == name):
        return (
            f"it has other cases there, {', '.join(others[:_SHOWN])}{', ...' * (len(others) > _SHOWN)}. A new case "
            "of an old test is refused, too, because it could be an old case whose id has changed: deselect it until "
            "the base has it"
        )
    if _defines(file, name.split("::")):
        return "its file there defines it (do python_functions, python_classes, collect_ignore or the like differ?)"
    return ""


def _defines(file: Path, names: list[str]) -> bool:
    """Whether that file defines the names, each inside the one before: as an imported module, or in its text."""
    modules = [module for module in list(sys.modules.values()) if _is_from(module, file)]
    for module in modules:
        place: object = module
        for name in names:
            place = getattr(place, name, None)
        if place is not None:
            return True
    try:
        bound = _bound(ast.parse(file.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return True  # unknown, and no old test may count as new by mistake
    return set(names) <= bound or (_ANY in bound and not modules)


def _is_from(module: object, file: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return isinstance(origin, str) and Path(origin).name == file.name and Path(origin).resolve() == file.resolve()


def _bound(tree: ast.AST) -> set[str]:
    """All names that some statement defines, assigns or imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names
