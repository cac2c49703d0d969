"""Sockets, pipes and queues that a dataset shares with other processes: what one of them reads, the others miss."""

from __future__ import annotations

import gc
import io
import os
import socket
import stat
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from multiprocessing import connection, queues, resource_tracker, synchronize
from multiprocessing.managers import BaseProxy
from types import FrameType, FunctionType, ModuleType
from typing import Any

from pytest_loaderperf.remote.shared_files import descriptors

_CHANNELS = (socket.socket, connection._ConnectionBase, queues.Queue, queues.SimpleQueue, synchronize.Barrier)  # noqa: SLF001 of all platforms
_PLAIN_PROXIES = {"dict", "list", "Namespace", "Value", "Array", "Lock", "RLock", "Semaphore", "BoundedSemaphore"}
_NOT_HELD = (type, ModuleType, FrameType, synchronize.Event)  # what these refer to belongs to the program
_MOST_OBJECTS = 20_000  # searched: 10 ms
_STANDARD = (0, 1, 2)  # input and output, which every process shares


def held_channel(*roots: object) -> str:
    """The type of the first channel found in ``roots`` and what they refer to; "" if there is none."""
    waiting, seen = deque(roots), {id(root) for root in roots}
    while waiting and len(seen) < _MOST_OBJECTS:
        found = waiting.popleft()
        if _is_channel(found):
            return f"{type(found).__module__}.{type(found).__qualname__}"
        for held in islice(_held(found), _MOST_OBJECTS):
            if id(held) not in seen and gc.is_tracked(held):
                seen.add(id(held))
                waiting.append(held)
    return ""


def _is_channel(found: object) -> bool:
    if isinstance(found, BaseProxy):
        return found._token.typeid not in _PLAIN_PROXIES  # type: ignore[attr-defined]  # noqa: SLF001 it has no other name
    if isinstance(found, io.FileIO):
        with suppress(OSError, ValueError):  # it is closed
            return _leads_elsewhere(os.fstat(found.fileno()).st_mode)
    return isinstance(found, _CHANNELS)


def _held(found: object) -> Iterable[Any]:
    if isinstance(found, FunctionType):  # but not the globals of its module
        return (found.__closure__, found.__defaults__, found.__kwdefaults__, found.__dict__)
    return () if isinstance(found, _NOT_HELD) else gc.get_referents(found)


def _leads_elsewhere(mode: int) -> bool:
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def open_channels() -> dict[int, int]:
    """The open sockets and pipes of this process, except standard input and output: descriptors and inodes."""
    tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]  # noqa: SLF001 getfd() starts one
    found = {}
    for descriptor in set(descriptors()) - {*_STANDARD, tracker}:
        with suppress(OSError):  # the listing's own one is closed
            status = os.fstat(descriptor)
            if _leads_elsewhere(status.st_mode):
                found[descriptor] = status.st_ino
    return found


def sever(inherited: Mapping[int, int]) -> None:
    """In a forked process: disconnect these channels, descriptors and inodes, which it shares with its parent.

    From now on they behave as closed: reading gives no data, and writing raises. Other processes do not notice.
    """
    now = open_channels()
    for descriptor, inode in inherited.items():
        if now.get(descriptor) == inode:  # else it was closed before the fork, and the number may be reused
            ours, theirs = socket.socketpair()
            theirs.close()
            os.dup2(ours.fileno(), descriptor, inheritable=os.get_inheritable(descriptor))
            ours.close()
