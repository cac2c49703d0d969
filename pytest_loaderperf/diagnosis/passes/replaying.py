"""An expression of the user's code, rewritten so that it need not be evaluated each time."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from copy import copy
from typing import Any

from pytest_loaderperf.diagnosis.passes.rewriting import PROBE, ExpressionRewriter, Register

_INNER = "__loaderperf_inner__"
_NOT_LATER = (ast.Yield, ast.YieldFrom, ast.Await)


class LineRewriter(ast.NodeTransformer):
    """Gives the probe's ``replay`` the expression of an assignment, a return or a call, as a function.

    A loop would cost as much without the expression: where the line is in one, the whole function around it is given to
    ``replay_call``, if it is one whose calls may be left out.
    """

    def __init__(self, file: str, register: Register) -> None:
        self._file, self._register = file, register
        self._function = ""
        self._in_loop = False  # of the function that is visited

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Only statements inside functions are rewritten."""
        outer = self._function, self._in_loop
        self._function, self._in_loop = node.name, False
        self.generic_visit(node)
        later = self._in_loop and _can_wait(node)
        self._function, self._in_loop = outer
        return _call_later(node) if later else node

    def _as_it_is(self, node: Any) -> Any:
        return node

    visit_AsyncFunctionDef = _as_it_is  # noqa: N815 ast calls it

    def _loop(self, node: Any) -> Any:
        self._in_loop = self._in_loop or self._has("function", node)
        return node

    visit_For = visit_While = visit_AsyncFor = _loop  # noqa: N815 ast calls these

    def _has(self, kind: str, node: Any) -> bool:
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        return any(self._function and self._register(self._file, kind, line, self._function) for line in lines)

    def _statement(self, node: Any) -> Any:
        if not self._has("line", node) or node.value is None or not _can_wait(node.value, ast.NamedExpr):
            return node
        node.value = _later("replay", node.value)
        return node

    visit_Assign = visit_AnnAssign = visit_Return = visit_Expr = _statement  # noqa: N815 ast calls these


class CallRewriter(ExpressionRewriter):
    """Gives the probe each call that it registers, with its arguments, as a function: they need not be evaluated."""

    def visit_Call(self, node: ast.Call) -> Any:  # noqa: N802 ast calls it
        """A call of the line."""
        waits = _can_wait(node, ast.NamedExpr)
        made = super().visit_Call(node)
        return made if made is node or not waits else _later("settled", made)


def _later(verb: str, value: ast.expr) -> ast.expr:
    """``value`` as a function that is given to the probe."""
    probe = ast.Attribute(ast.Name(PROBE, ast.Load()), verb, ast.Load())
    name = value.args[1] if isinstance(value, ast.Call) and len(value.args) > 1 else value
    called = getattr(name, "attr", getattr(name, "id", ""))
    return ast.copy_location(ast.Call(probe, [ast.Constant(called), ast.Lambda(_arguments(), value)], []), value)


def _call_later(node: ast.FunctionDef) -> ast.FunctionDef:
    """The function, whose body is an inner one that is given to the probe, with the arguments."""
    taken = node.args
    if taken.vararg is not None or taken.kwarg is not None:
        return node
    bare = _arguments(taken.posonlyargs, taken.args, taken.kwonlyargs)
    inner: Any = copy(node)  # Python 3.12 has further fields
    inner.name, inner.args, inner.decorator_list, inner.returns, inner.type_params = _INNER, bare, [], None, []
    given: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in (*taken.posonlyargs, *taken.args)]
    named = [ast.keyword(one.arg, ast.Name(one.arg, ast.Load())) for one in taken.kwonlyargs]
    call = ast.Lambda(_arguments(), ast.Call(ast.Name(_INNER, ast.Load()), given, named))
    probe = ast.Attribute(ast.Name(PROBE, ast.Load()), "replay_call", ast.Load())
    replayed = ast.Return(ast.Call(probe, [call, *given], []))
    node.body = [inner, ast.copy_location(replayed, node)]
    return node


def _arguments(first: Sequence[ast.arg] = (), args: Sequence[ast.arg] = (), named: Sequence[ast.arg] = ()) -> Any:
    """Parameters without defaults or annotations."""
    bare = [[ast.arg(one.arg) for one in part] for part in (first, args, named)]
    return ast.arguments(bare[0], bare[1], None, bare[2], [None] * len(named), None, [])


def _can_wait(value: ast.AST, *without: type[ast.AST]) -> bool:
    """Whether an expression, or the body of a function, means the same inside another function."""
    parts = list(ast.walk(value))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return not any(isinstance(part, (*_NOT_LATER, *without)) for part in parts) and not names & {
        "super",
        "locals",
        "__class__",
    }
