"""The commit to compare with: where HEAD left another branch, also in a shallow clone, which lacks it at first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pytest_loaderperf.remote.worktree import BaseError, git

_DEEPER = ("--deepen=50", "--deepen=500", "--unshallow")  # each fetches more history
_REMOTE = "origin"
_NO_SUCH_REF = "couldn't find remote ref"  # in git's words


def merge_base(ref: str, start: Path) -> str:
    """The full hash of the newest commit that HEAD and ``ref``, a branch, tag or commit, have in common.

    What is missing here is fetched from origin. Raises BaseError if there is none, or it cannot be fetched.
    """
    if not ref.strip() or ref.startswith("-"):
        raise BaseError(f"expected a branch, tag or commit to compare with, got {ref!r}. Is a variable empty?")
    other = _commit(ref, start)
    found = _common(other, start)
    for deeper in _DEEPER:
        if found is not None or not _is_shallow(start):
            break
        _fetch(start, [deeper], [git(start, "rev-parse", "HEAD"), other])
        found = _common(other, start)
    if found is None:
        raise BaseError(f"HEAD and {ref!r} have no commit in common. Expected a branch that HEAD was made from.")
    return found


def _commit(ref: str, start: Path) -> str:
    """The hash of ``ref``: as it is here, else as origin has it."""
    name = ref.removeprefix(f"{_REMOTE}/")
    for here in (ref, f"{_REMOTE}/{name}"):
        with suppress(BaseError):
            return git(start, "rev-parse", "--verify", "--quiet", f"{here}^{{commit}}")
    _fetch(start, ["--depth=1"] if _is_shallow(start) else [], [name])
    return git(start, "rev-parse", "FETCH_HEAD^{commit}")


def _is_shallow(start: Path) -> bool:
    return git(start, "rev-parse", "--is-shallow-repository") == "true"


def _common(other: str, start: Path) -> str | None:
    try:
        return git(start, "merge-base", "HEAD", other)
    except BaseError:  # git's status if there is none
        return None


def _fetch(start: Path, options: Sequence[str], wanted: Sequence[str]) -> None:
    try:
        git(start, "fetch", "--quiet", "--no-tags", *options, _REMOTE, *wanted)
    except BaseError as error:
        if _NO_SUCH_REF in str(error):
            got = " and ".join(map(repr, wanted))
            raise BaseError(
                f"expected a branch, tag or commit to compare with, got {got}, which is neither here nor at {_REMOTE}. "
                "Is it misspelt?"
            ) from None
        raise BaseError(
            f"git cannot fetch {' and '.join(wanted)} from {_REMOTE}: {error}. Check out with the whole history: "
            "actions/checkout with `fetch-depth: 0`."
        ) from None
