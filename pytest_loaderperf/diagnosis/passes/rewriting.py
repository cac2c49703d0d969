"""The user's functions, rewritten so that each of their expressions reports to a recorder.

The source of a function is parsed, its calls, subscripts, operators, loops and comprehensions are wrapped, and the live
function gets the new code. It works for functions that exist already (closures, notebook cells, test modules), in every
Python version, and in worker processes that are forked afterwards.
"""

from __future__ import annotations

import ast
import builtins
import gc
import linecache
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

PROBE = "__loaderperf_probe__"
Register = Callable[[str, str, int, str], int]  # file, kind, line, function -> number of the site; 0: leave it
Rewriter = Callable[[str, Register], ast.NodeTransformer]

# They read the frame that calls them, so a call through another function would change their meaning.
_READS_ITS_CALLER = frozenset(
    "super locals globals vars dir eval exec __import__ breakpoint _getframe currentframe stack warn".split()
)
_COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr)


def _roots() -> tuple[str, ...]:
    """Folders of code that is not the user's: Python's library, installed packages, and this package."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    paths.add(str(Path(__file__).parents[2]))
    resolved = {str(Path(path).resolve()) for path in paths}
    return tuple(path.rstrip("/") + "/" for path in {*paths, *resolved})


_LIBRARY_ROOTS = _roots()
_PASS = str(Path(__file__).with_name("observe.py"))


@cache
def is_users(file: str) -> bool:
    """Whether code of ``file`` is the user's: a file outside the libraries, or a cell of a notebook."""
    if file.startswith("<"):
        return file.startswith(("<ipython-input", "<stdin>")) and bool(linecache.getlines(file))
    if file.startswith(_LIBRARY_ROOTS) or "/site-packages/" in file or "/dist-packages/" in file:
        return False
    return not file.startswith("frozen ") and bool(linecache.getlines(file))


def users_frame(depth: int = 1) -> Any:
    """The nearest frame of the user's code that is running, inside the pass; None if there is none."""
    return users_frame_of(sys._getframe(depth))  # noqa: SLF001 torch and the interpreter have no public name for it


def users_frame_of(frame: Any) -> Any:
    """The nearest frame of the user's code from ``frame`` on, inside the pass; None if there is none."""
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = None if frame.f_code.co_filename == _PASS else frame.f_back  # what called the pass is not the loader
    return frame


class Instrument:
    """Rewrites functions of the user's code, or ``only`` of one file: their expressions then report to ``probe``."""

    def __init__(
        self, register: Register, probe: object, rewriter: Rewriter | None = None, *, only: str | None = None
    ) -> None:
        self._register, self._probe, self._rewriter, self._only = register, probe, rewriter, only
        self._codes: dict[str, _Codes] = {}  # a large project has thousands of lines, which are parsed once

    def __call__(self) -> int:
        """Rewrite all that exist now. How many were changed; those that were are skipped."""
        setattr(builtins, PROBE, self._probe)
        by_file: dict[str, list[FunctionType]] = {}
        for found in gc.get_objects():
            if type(found) is FunctionType and self._takes(found.__code__):
                by_file.setdefault(found.__code__.co_filename, []).append(found)
        changed = 0
        for file, functions in by_file.items():
            codes = self._codes_of(file)
            for function in functions:
                code = codes.get(_key(function.__code__))
                if code is not None and code.co_freevars == function.__code__.co_freevars:
                    function.__code__ = code
                    changed += 1
        return changed

    def _takes(self, code: CodeType) -> bool:
        file = code.co_filename
        return (file == self._only if self._only is not None else is_users(file)) and not _is_done(code)

    def _codes_of(self, file: str) -> _Codes:
        if file not in self._codes:
            self._codes[file] = _rewritten(file, (self._rewriter or ExpressionRewriter)(file, self._register))
        return self._codes[file]


def _is_done(code: CodeType) -> bool:
    return PROBE in code.co_names


_Key = tuple[str, int, int]
_Codes = dict[_Key, CodeType]


def _key(code: CodeType) -> _Key:
    return code.co_qualname, code.co_firstlineno, code.co_argcount


def _rewritten(file: str, rewriter: ast.NodeTransformer) -> _Codes:
    """New code of every function in ``file``, but for those that cannot be told apart."""
    source = "".join(linecache.getlines(file))
    try:
        tree = ast.fix_missing_locations(rewriter.visit(ast.parse(source)))
        module = compile(tree, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):  # a cell with magics, or source that changed since
        return {}
    found: _Codes = {}
    twice = set()
    for code in _inside(module):
        key = _key(code)
        if key in found:
            twice.add(key)
        found[key] = code
    return {key: code for key, code in found.items() if key not in twice}


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


class ExpressionRewriter(ast.NodeTransformer):
    """Wraps expressions inside functions; what a module or class body does has been done already."""

    def __init__(self, file: str, register: Register) -> None:
        self._file, self._register = file, register
        self._functions: list[str] = []
        self._names: list[str] = []

    def _scope(self, node: Any, *, is_function: bool) -> Any:
        name = getattr(node, "name", "<lambda>")
        self._names.append(name)
        if is_function:
            self._functions.append(".".join(self._names))
            self._names.append("<locals>")
            if isinstance(node, ast.Lambda):
                node.body = self.visit(node.body)
            else:
                node.body = [self.visit(statement) for statement in node.body]
            self._names.pop()
            self._functions.pop()
        else:
            node.body = [self.visit(statement) for statement in node.body]
        self._names.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._scope(node, is_function=True)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._scope(node, is_function=True)

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return self._scope(node, is_function=True)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._scope(node, is_function=False)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def _wrapped(self, verb: str, kind: str, node: ast.expr, *arguments: ast.expr) -> ast.expr | None:
        number = self._register(self._file, kind, node.lineno, self._functions[-1])
        if not number:
            return None
        probe = ast.Attribute(ast.Name(PROBE, ast.Load()), verb, ast.Load())
        return ast.copy_location(ast.Call(probe, [ast.Constant(number), *arguments], []), node)

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if not self._functions or name in _READS_ITS_CALLER:
            return node
        wrapped = self._wrapped("call", "call", node, called, *node.args)
        if isinstance(wrapped, ast.Call):
            wrapped.keywords = node.keywords
        return wrapped or node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if not self._functions or not isinstance(node.ctx, ast.Load):
            return node
        key = _key_expression(node.slice)
        return node if key is None else self._wrapped("item", "item", node, node.value, key) or node

    def visit_Assign(self, node: ast.Assign) -> Any:
        self.generic_visit(node)
        target = node.targets[0]
        if not self._functions or len(node.targets) != 1 or not isinstance(target, ast.Subscript):
            return node
        key = _key_expression(target.slice)
        if key is None:
            return node
        store = self._wrapped("store", "store", target, node.value, target.value, key)
        return node if store is None else ast.copy_location(ast.Expr(store), node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        if not self._functions or len(node.ops) != 1 or not isinstance(node.ops[0], _COMPARED):
            return node
        name = ast.Constant(type(node.ops[0]).__name__)
        return self._wrapped("operate", "operator", node, name, node.left, node.comparators[0]) or node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        if not self._functions or not isinstance(node.op, _OPERATORS):
            return node
        name = ast.Constant(type(node.op).__name__)
        return self._wrapped("operate", "operator", node, name, node.left, node.right) or node

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        if self._functions:
            node.iter = self._wrapped("loop", "loop", node.iter, node.iter) or node.iter
        return node

    def visit_With(self, node: ast.With) -> Any:
        self.generic_visit(node)
        if self._functions:
            for part in node.items:
                manager = part.context_expr
                part.context_expr = self._wrapped("enter", "with", manager, manager) or manager
        return node

    def _comprehension(self, node: Any) -> Any:
        self.generic_visit(node)
        if not self._functions:
            return node
        first = node.generators[0]
        first.iter = self._wrapped("loop", "loop", first.iter, first.iter) or first.iter
        if isinstance(node, ast.GeneratorExp) or any(part.is_async for part in node.generators):
            return node
        start = ast.copy_location(
            ast.Call(ast.Attribute(ast.Name(PROBE, ast.Load()), "begin", ast.Load()), [], []), node
        )
        return self._wrapped("made", "comprehension", node, start, node) or node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815 ast calls these


def _key_expression(key: ast.expr) -> ast.expr | None:
    """The key of a subscript as an expression of its own: a slice as a call of ``slice``. None if it has no form."""
    if isinstance(key, ast.Slice):
        ends = [end if end is not None else ast.Constant(None) for end in (key.lower, key.upper, key.step)]
        probe = ast.Attribute(ast.Name(PROBE, ast.Load()), "slice", ast.Load())
        return ast.copy_location(ast.Call(probe, ends, []), key)
    if isinstance(key, ast.Tuple):
        parts = [_key_expression(part) for part in key.elts]
        if any(part is None or isinstance(part, ast.Starred) for part in parts):
            return None
        return ast.copy_location(ast.Tuple([part for part in parts if part is not None], ast.Load()), key)
    return None if isinstance(key, ast.Starred) else key
