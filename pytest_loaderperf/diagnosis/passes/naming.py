"""Names of what a line calls, as a user would write them."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.diagnosis.passes.rewriting import is_users

BUILTIN = (BuiltinFunctionType, BuiltinMethodType)
_MOST_WRAPPERS = 8  # around one another
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "In": lambda item, holder: item in holder,
    "NotIn": lambda item, holder: item not in holder,
}


class Subscript:
    """The callee of a subscript: the type of what it reads from."""

    def __init__(self, kind: type, verb: str = "__getitem__") -> None:
        self.kind, self.verb = kind, verb


def name_key(function: Any, owner: object) -> object:
    """What tells callees of one site apart, at little cost."""
    if isinstance(function, (str, Subscript)):
        return function if isinstance(function, str) else (function.kind, function.verb)
    if isinstance(function, FunctionType):
        return function.__code__
    if owner is not None and not isinstance(owner, type):
        return type(owner), getattr(function, "__name__", "")
    if isinstance(function, partial):
        return partial, name_key(function.func, None)
    return function if isinstance(function, type) else (type(function), getattr(function, "__name__", ""))


def callee_name(function: Any, owner: object) -> str:
    """The dotted name of a callee: ``torch.tensor``, ``list.index``, ``numpy.ndarray.astype``."""
    if isinstance(function, str):
        return function
    if isinstance(function, Subscript):
        return f"{_type_name(function.kind)}.{function.verb}"
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__name__))
    if not isinstance(function, type) and name == type(function).__name__ and user_code(function):
        name += ".__call__"  # of an object
    short = name.rpartition(".")[2]
    if owner is not None and not isinstance(owner, (type, type(os))):
        return f"{_type_name(type(owner))}.{short}"
    if isinstance(owner, type):
        return f"{_type_name(owner)}.{short}"
    if isinstance(function, type):
        return _type_name(function)
    module = str(getattr(function, "__module__", None) or getattr(owner, "__name__", None) or "builtins")
    if module == "torch._VariableFunctionsClass" or name.startswith("_VariableFunctionsClass"):
        module, name = "torch", short
    return f"{_public(module, function)}.{name}"


def _type_name(kind: type) -> str:
    if issubclass(kind, torch.Tensor):
        return "torch.Tensor"
    if issubclass(kind, np.ndarray):
        return "numpy.ndarray"
    if issubclass(kind, Path):
        return "pathlib.Path"
    if kind.__module__ == "pandas.core.indexing":  # _iLocIndexer
        return f"pandas.DataFrame.{kind.__name__.strip('_').removesuffix('Indexer').lower()}"
    module = _public(kind.__module__, kind)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _public(module: str, thing: Any) -> str:
    """The shortest module that has ``thing``, as users import it: ``zarr`` for ``zarr.core.array``."""
    if module.startswith(("numpy.", "numpy")) and ".random" not in module:
        return "numpy"
    if module in ("torch._C", "torch._tensor", "torch.functional"):
        return "torch"
    name, parts = getattr(thing, "__name__", ""), module.split(".")
    for end in range(1, len(parts) + 1):
        for shorter in (".".join(part.lstrip("_") for part in parts[:end]), ".".join(parts[:end])):
            if vars(sys.modules.get(shorter, object)).get(name) is thing:  # getattr might import what is lazy
                return shorter
    return module


def _unwrapped(function: Any) -> Any:
    """What a method, a ``partial`` or a wrapper in C, such as ``lru_cache``, calls in the end."""
    for _ in range(_MOST_WRAPPERS):
        if isinstance(function, MethodType):
            function = function.__func__
        elif isinstance(function, partial):
            function = function.func
        elif isinstance(function, (FunctionType, type)):
            break
        else:
            function = getattr(function, "__dict__", {}).get("__wrapped__", function)
    return function


def user_code(function: Any) -> str:
    """``file:line`` of the user's own function that is called, also through ``partial`` or a cache; "" for others."""
    function = inner = _unwrapped(function)
    if isinstance(function, type):
        inner = getattr(function, "__init__", None)
    elif not isinstance(inner, FunctionType) and not isinstance(inner, (*BUILTIN, str, Subscript)):
        inner = getattr(type(function), "__call__", None)  # noqa: B004 as above: its code
    code = getattr(inner, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None and is_users(code.co_filename) else ""
