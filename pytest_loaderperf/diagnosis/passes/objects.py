"""How many Python objects a dataset holds, and which line assigns them."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pytest_loaderperf.diagnosis.passes.rewriting import is_users

_LOOKED_AT = 16  # parts of a container, for how many objects its parts hold
_MOST_DEPTH = 2
_HOLDERS = (list, tuple, dict, set, frozenset)


def objects_held(datasets: Iterable[Any]) -> dict[str, Any]:
    """Facts of the largest list, tuple, dict or set that an attribute of a dataset holds: ``objects`` and where."""
    most = {"objects": 0}
    for dataset in datasets:
        for name, value in list(getattr(dataset, "__dict__", {}).items()):
            if isinstance(value, _HOLDERS) and (count := _count(value)) > most["objects"]:
                file, line = _assigned_at(type(dataset), name)
                most = {"objects": count, "objects_name": name, "objects_file": file, "objects_line": line}  # type: ignore[dict-item]
    return most


def _count(holder: Any, depth: int = 0) -> int:
    """Its objects and those in its parts, as many as its first parts say."""
    parts = list(_first(holder.values() if isinstance(holder, dict) else holder))
    inside = sum(_count(part, depth + 1) for part in parts if isinstance(part, _HOLDERS) and depth < _MOST_DEPTH)
    each = 2 if isinstance(holder, dict) else 1
    return each * len(holder) + inside * len(holder) // max(1, len(parts))


def _first(parts: Iterable[Any]) -> Iterable[Any]:
    return (part for _, part in zip(range(_LOOKED_AT), parts, strict=False))


def _assigned_at(kind: type, name: str) -> tuple[str, int]:
    """File and line of the first ``self.name = ...`` in a class of the user's; ("", 0) if there is none."""
    for found in kind.__mro__:
        with suppress(OSError, TypeError, SyntaxError):
            file = inspect.getsourcefile(found) or ""
            if not is_users(file):
                continue
            tree = ast.parse("".join(linecache.getlines(file)))
            classes = [
                node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == found.__name__
            ]
            lines = [line for one in classes for node in ast.walk(one) if (line := _line_if_assigns(node, name))]
            if lines:
                return file, min(lines)
    return "", 0


def _line_if_assigns(node: ast.AST, name: str) -> int:
    """The line of a statement that assigns to an attribute called ``name``, alone or with others; 0 for others."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
        return 0
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    stored = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Attribute)]
    return node.lineno if any(part.attr == name and isinstance(part.ctx, ast.Store) for part in stored) else 0
