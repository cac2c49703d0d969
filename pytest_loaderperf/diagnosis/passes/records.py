"""What one line did with one callee, in this process."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.diagnosis.growth import exponent
from pytest_loaderperf.diagnosis.ledger import Value
from pytest_loaderperf.diagnosis.passes.description import describe
from pytest_loaderperf.diagnosis.passes.values import base_of, digest, key, operand, overlap, random_state
from pytest_loaderperf.measurement.structure import batch_leaves

_MOST_KEYS = 16  # different arguments of a line that are remembered
_KEYED = 512  # calls of a line whose arguments are compared with those before
_MOST_COPIES = 8  # of a line that are held to see whether anything modifies them
_MOST_PATHS = 4096
_FEWEST_SIZES, _GROWN = 8, 4  # results of different sizes, and times from the first to the last, to see growth
_NO_PATHS = frozenset({"posixpath", "genericpath", "os", "pathlib", "posix", "nt", "shutil", "str", "builtins"})
_OPENING = (".open", ".read_bytes", ".read_text")  # methods of a path that open it
_COPIES = frozenset("clone copy deepcopy contiguous tensor array ascontiguousarray astype asdict astuple".split())
_WRITES = frozenset(["save", "dump"])  # what they give is their first argument, in a file
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
Digests = dict[int, tuple[object, str | None]]
_TRIMS = 1.5  # times as large: a temporary array that a copy of a part lets go of
COUNTED = (
    "count total_ns own_ns index_ns fetch_ns collate_ns longest_ns known keyed compared equal path_calls aliases "
    "looked_at same_operand grows growing scans alike in_helper_thread in_workers in_start"
).split()


class Record:
    """What one site did with one callee, in this process."""

    def __init__(self, callee: str, user: str) -> None:
        self.callee, self.user = callee, user
        self.counts = dict.fromkeys(COUNTED, 0)
        self.argument = self.largest = self.result = Value()
        self.paths: set[object] = set()
        self.dtypes: set[str] = set()
        self.keys: dict[object, str | None] = {}
        self.held: list[object] = []
        self.copies: list[Copy] = []
        self.last: object = None
        self.first: str | None = None
        self.operand: object = None
        self.random: tuple[int, str] | None = None
        self.random_state: str | None = None
        self.made_at = ""
        self.holds = 0
        self.held_by_epoch: list[int] = []
        self.within: set[int] = set()  # sites that ran this one
        self.most = (0, 0)  # bytes and elements of the largest result
        self.grown: list[tuple[int, int]] = []  # sizes of results, each larger than all before, and the time they took

    def look_at_random(
        self, generators: Mapping[int, tuple[str, object]], owner: object, args: tuple[Any, ...]
    ) -> None:
        """Keep the state of a generator that is used more than once, as it was when it was first used."""
        for found in (owner, *args):
            if not isinstance(found, GENERATORS):
                continue
            state = random_state(found) if self.random is None or self.random[0] != id(found) else None
            if self.random is not None and self.random[0] == id(found):
                self.random_state = self.random[1]
                return
            if state is not None:
                self.random = id(found), state
                self.made_at = generators.get(id(found), ("", None))[0]
                return

    def look_at_paths(self, args: tuple[Any, ...]) -> None:
        top, _, name = self.callee.partition(".")
        if top in _NO_PATHS and self.callee != "io.open" and not (top == "pathlib" and name.endswith(_OPENING)):
            return
        for argument in args:
            if isinstance(argument, (str, PurePath)) and len(self.paths) < _MOST_PATHS and _exists(str(argument)):
                self.counts["path_calls"] += 1
                self.paths.add(str(argument))
                return

    def look(self, digests: Digests, args: tuple[Any, ...], result: Any, ns: int) -> None:
        counts = self.counts
        described = [describe(argument) for argument in args[:4]]
        if described:
            self.dtypes |= {one.dtype for one in described if one.dtype and one.items > 1}
            self.argument = max(self.argument, described[0], key=_size)
            largest = max(range(len(described)), key=lambda i: described[i].items)
            place = operand(args[largest])
            counts["same_operand"] += place == self.operand
            others = [one.items for i, one in enumerate(described) if i != largest]
            counts["scans"] += all(items <= 1 for items in others) or isinstance(args[1 - largest], str)
            self.operand = place
            self.held.append(args[largest])
            self.held = self.held[-_MOST_KEYS * 4 :]
            self.largest = max(self.largest, described[largest], key=_items)
            counts["aliases"] += overlap(args[0], result)
            first = args[0] if isinstance(args[0], (list, tuple)) else args
            if self.last is not None and any(part is self.last for part in first[:4]):
                counts["grows"] += 1
        found = describe(result)
        written = described[0] if described and self.callee.rpartition(".")[2] in _WRITES else found
        if (size := (written.nbytes, max(written.items, written.nested))) > self.most > (0, 0):
            counts["growing"] += 1
            self.grown.append((size[0] or size[1], ns))
        self.most = max(self.most, size)
        self.result = max(self.result, found, key=_size)
        self.last = result if isinstance(result, (torch.Tensor, np.ndarray, list)) else None
        now = digest(result)
        if self.first is None:
            self.first = now
        counts["alike"] += now is not None and now == self.first
        self.look_at_key(digests, args, now, compares=True)
        if len(self.copies) < _MOST_COPIES and self.callee.rpartition(".")[2] in _COPIES:
            self.copies.append(Copy(result, args[0] if args else None))

    def look_again(self, digests: Digests, args: tuple[Any, ...]) -> None:
        """Of a later call, see whether its arguments are known, and at every power of two how long a list is by now."""
        if args and self.counts["count"] & (self.counts["count"] - 1) == 0:
            self.largest = max(self.largest, *map(describe, args[:4]), key=_items)
        if self.keys and self.counts["keyed"] < _KEYED:
            self.look_at_key(digests, args, None, compares=False)

    def look_at_key(self, digests: Digests, args: tuple[Any, ...], now: str | None, *, compares: bool) -> None:
        held: list[object] = []
        found = tuple(key(argument, held, digests) for argument in args)
        self.counts["keyed"] += 1
        if found in self.keys:
            self.counts["known"] += 1
            if compares:
                before = self.keys[found]
                self.counts["compared"] += before is not None and now is not None
                self.counts["equal"] += before is not None and before == now
        elif compares and len(self.keys) < _MOST_KEYS:
            self.keys[found] = now
            self.held.extend(held)

    @property
    def exponent(self) -> float:
        """The power of the result's size with which the time grows; 0 if there are too few sizes to tell."""
        sizes = [size for size, _ in self.grown]
        if len(sizes) < _FEWEST_SIZES or sizes[-1] < _GROWN * sizes[0] or not sizes[0]:
            return 0.0
        return exponent(sizes, [float(ns) for _, ns in self.grown])


class Copy:
    """A copy, and its source, held to see whether anything modifies one of them."""

    def __init__(self, copy: object, source: object) -> None:
        held = vars(source) if is_dataclass(source) and hasattr(source, "__dict__") else source
        self._copies, self._sources = ([leaf for _, leaf in batch_leaves(whole)] for whole in (copy, held))
        self._before = digest(self._copies)
        self.base = base_of(source)
        self._nbytes = describe(copy).nbytes

    def is_kept(self, callee: str) -> bool:
        """Whether the copy has its first content still, and the source as well, if the callee changes no content."""
        if self._before is None or digest(self._copies) != self._before:
            return False
        layout_only = callee.rpartition(".")[2] in ("contiguous", "tensor", "ascontiguousarray")
        return layout_only or digest(self._sources) == self._before

    def trims(self, bases: Counter[tuple[int, int] | None]) -> bool:
        """Whether the copy lets go of a temporary array that is larger."""
        return self.base is not None and bases[self.base] == 1 and self.base[1] > _TRIMS * self._nbytes > 0


def _size(value: Value) -> tuple[int, int]:
    return value.nbytes, value.items


def _items(value: Value) -> int:
    return value.items


@lru_cache(maxsize=4096)
def _exists(path: str) -> bool:
    return ("/" in path or "." in path) and len(path) < 1024 and "\n" not in path and os.path.exists(path)  # noqa: PLR2004, PTH110 said beside it
