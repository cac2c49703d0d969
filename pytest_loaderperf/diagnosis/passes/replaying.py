"""An expression of the user's code, rewritten so that it need not be evaluated each time."""

from __future__ import annotations

import ast
from typing import Any

from pytest_loaderperf.diagnosis.passes.rewriting import PROBE, ExpressionRewriter, Register

_NOT_IN_A_LAMBDA = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)


class LineRewriter(ast.NodeTransformer):
    """Gives the probe's ``replay`` the expression of an assignment, a return or a call, as a function.

    Statements in loops stay: what a loop costs would stay as well.
    """

    def __init__(self, file: str, register: Register) -> None:
        self._file, self._register = file, register
        self._function = ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Only statements inside functions are rewritten."""
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer
        return node

    def _as_it_is(self, node: Any) -> Any:
        return node

    visit_AsyncFunctionDef = visit_For = visit_While = visit_AsyncFor = _as_it_is  # noqa: N815 ast calls these

    def _statement(self, node: Any) -> Any:
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        named = [line for line in lines if self._function and self._register(self._file, "line", line, self._function)]
        if not named or node.value is None or not _can_wait(node.value):
            return node
        node.value = _later("replay", node.value)
        return node

    visit_Assign = visit_AnnAssign = visit_Return = visit_Expr = _statement  # noqa: N815 ast calls these


class CallRewriter(ExpressionRewriter):
    """Gives the probe each call that it registers, with its arguments, as a function: they need not be evaluated."""

    def visit_Call(self, node: ast.Call) -> Any:  # noqa: N802 ast calls it
        """A call of the line."""
        waits = _can_wait(node)
        made = super().visit_Call(node)
        return made if made is node or not waits else _later("settled", made)


def _later(verb: str, value: ast.expr) -> ast.expr:
    """``value`` as a function that is given to the probe."""
    empty = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    probe = ast.Attribute(ast.Name(PROBE, ast.Load()), verb, ast.Load())
    name = value.args[1] if isinstance(value, ast.Call) and len(value.args) > 1 else value
    called = getattr(name, "attr", getattr(name, "id", ""))
    return ast.copy_location(ast.Call(probe, [ast.Constant(called), ast.Lambda(empty, value)], []), value)


def _can_wait(value: ast.expr) -> bool:
    """Whether an expression means the same inside a lambda."""
    parts = list(ast.walk(value))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return not any(isinstance(part, _NOT_IN_A_LAMBDA) for part in parts) and not names & {"super", "locals"}
