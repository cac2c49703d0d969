"""Text from outside in Markdown that GitHub renders: it stays text. Nobody is mentioned, nothing is linked or run."""

from __future__ import annotations

import re

from pytest_loaderperf.errors import MOST_SHOWN, printable

_PLAIN = re.compile(r"(?! )(?:[^`|\\<&]|<(?=[ =]))+(?<! )")  # nothing that ends a code span or a table's cell
_MARKUP = re.compile(r"""[!"#$%&'*+<=>?@\[\\\]^_`{|}~]""")
_NO_JOIN = "&#8203;"  # zero-width space: what GitHub would link is two words then
_LINKED = re.compile(r"(@|#|:(?=//)|\bwww(?=\.)|\bgh-(?=\d))", re.IGNORECASE)


def code(text: object, most: int = MOST_SHOWN) -> str:
    """``text`` as code, in which GitHub looks for no mentions and links. Works in a table's cell.

    >>> code("a >= 0.9 * b"), code("a|b")
    ('`a >= 0.9 * b`', '<code>a&#124;b</code>')
    """
    shown = printable(text, most)
    if _PLAIN.fullmatch(shown):
        return f"`{shown}`"
    return f"<code>{_MARKUP.sub(_entity, shown)}</code>"


def prose(text: object, most: int = MOST_SHOWN) -> str:
    """``text`` as a sentence without any markup, mention or link of its own.

    >>> prose("*see* @you")
    '&#42;see&#42; &#64;&#8203;you'
    """
    parts = _LINKED.split(printable(text, most))  # every second one is what would begin a link
    return "".join(_MARKUP.sub(_entity, part) + _NO_JOIN * (i % 2) for i, part in enumerate(parts))


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"
