"""The expressions of GitHub Actions that our files use: paths, strings, comparisons, and the status functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKENS = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<operator>==|!=|&&|\|\||!|\(|\))|(?P<name>[A-Za-z_][\w.-]*))"
)
_WHOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STRICT = ("inputs", "steps", "needs", "matrix", "env")  # contexts in which a name must exist; elsewhere it may be empty


class UnknownError(ValueError):
    """An expression uses what is not known here, or does not exist."""


def evaluate(text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[[], bool]]) -> Any:
    """The value of one expression, without its ``${{ }}``. Raises UnknownError."""
    parser = _Parser(text, contexts, functions)
    value = parser.either()
    if parser.tokens:
        raise UnknownError(f"expected the end of {text!r}, got {parser.tokens[0][1]!r}")
    return value


def interpolate(text: str, contexts: Mapping[str, Any]) -> str:
    """``text`` with the values of its ``${{ }}``."""
    return _WHOLE.sub(lambda match: shown(evaluate(match[1], contexts, {})), text)


def condition(text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[[], bool]]) -> bool:
    """Whether an ``if`` holds: as GitHub says, only after success unless it asks for the status itself."""
    whole = _WHOLE.fullmatch(text.strip())
    inner = whole[1] if whole else text
    asks = any(f"{name}(" in inner for name in functions)
    return bool(evaluate(inner, contexts, functions)) and (asks or functions["success"]())


def shown(value: Any) -> str:
    """A value as GitHub puts it into a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Parser:
    def __init__(self, text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[[], bool]]) -> None:
        self._contexts, self._functions = contexts, functions
        self.tokens: list[tuple[str, str]] = []
        at, text = 0, text.strip()
        while at < len(text):
            found = _TOKENS.match(text, at)
            if found is None:
                raise UnknownError(f"expected an expression that our files use, got {text[at:]!r}")
            self.tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = value and other
        return value

    def _compared(self) -> Any:
        value = self._one()
        for operator in ("==", "!="):
            if self._take(operator):
                return (shown(value).lower() == shown(self._one()).lower()) is (operator == "==")
        return value

    def _one(self) -> Any:
        if self._take("!"):
            return not self._one()
        if self._take("("):
            value = self.either()
            self._expect(")")
            return value
        kind, text = self.tokens.pop(0) if self.tokens else ("end", "the end")
        if kind == "string":
            return text[1:-1].replace("''", "'")
        if kind != "name":
            raise UnknownError(f"expected a value, got {text!r}")
        if text in ("true", "false"):
            return text == "true"
        return self._called(text) if self._take("(") else self._looked_up(text)

    def _called(self, name: str) -> bool:
        self._expect(")")
        if name not in self._functions:
            raise UnknownError(f"expected one of {', '.join(self._functions) or 'no function'}, got {name}()")
        return self._functions[name]()

    def _looked_up(self, path: str) -> Any:
        root, *names = path.split(".")
        if root not in self._contexts:
            raise UnknownError(f"expected one of {', '.join(self._contexts)}, got {path}")
        value = self._contexts[root]
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                if root in STRICT:
                    raise UnknownError(f"{path}: there is no {name} here")
                return None
            value = value[name]
        return value

    def _take(self, token: str) -> bool:
        if self.tokens and self.tokens[0] == ("operator", token):
            del self.tokens[0]
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise UnknownError(f"expected {token!r}, got {self.tokens[0][1] if self.tokens else 'the end'!r}")
