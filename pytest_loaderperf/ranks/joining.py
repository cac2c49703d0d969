"""How the ranks of a job find each other: by the store of torch.distributed, once. Then they talk over sockets.

The store does not carry the messages: a call to it cannot be ended while its host is cut off, and it does not notice
that a rank has died. A socket does, at once.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from pytest_loaderperf.errors import printable
from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.ranks.peer import FOREVER, Peer, this_machine
from pytest_loaderperf.ranks.world import World

_KEY = "loaderperf/rank0"  # in the store: rank 0's port and the job's token, as JSON
_POLL_SECONDS = 0.05
_QUIET_SECONDS = 10.0  # after which a rank says whom it waits for
_HELLO_SECONDS = 5.0  # for a connection to say who it is; a lost packet is sent again within 3 s
_TOKEN_BYTES = 16
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_T = TypeVar("_T")


def join(world: World, timeout_s: float) -> tuple[list[Peer], Any]:
    """The ranks that this one talks to, and the store, to be kept as long as the job: rank 0 may be its host.

    Rank 0 talks to all others, and they to rank 0. Raises RankError if not all ranks join within ``timeout_s``.
    """
    deadline_s = time.monotonic() + timeout_s
    where = f"the job's store at {printable(world.address)}:{world.port}"
    expected = f"{where} to be {'opened' if _opens(world) else 'reached'}"
    store = _bounded(lambda: _store_of(world, timeout_s), world, deadline_s, expected)
    if world.rank:
        return [_find_rank0(world, store, deadline_s)], store
    return _admit(world, store, deadline_s, timeout_s), store


def _bounded(work: Callable[[], _T], world: World, deadline_s: float, expected: str) -> _T:
    """What ``work`` returns, which asks the store; another thread waits for it, and this one can be interrupted."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 raised in the asking thread
            future.set_exception(error)

    threading.Thread(target=run, name="loaderperf-store", daemon=True).start()
    began_s = time.monotonic()
    try:
        wait([future], min(_QUIET_SECONDS, max(0.0, deadline_s - began_s)))
        if not future.done():
            _say(world, f"waiting for {expected}", deadline_s)
        return future.result(max(0.0, deadline_s - time.monotonic()))
    except TimeoutError:
        said = "nothing"
    except RuntimeError as error:
        said = f"{type(error).__name__} ({printable(str(error).partition(chr(10))[0]).rstrip('.')})"
    raise RankError(
        f"rank {world.rank} on host {world.host}: expected {expected}, got {said} in "
        f"{time.monotonic() - began_s:.0f} s. Look at the output of rank 0, check MASTER_ADDR and MASTER_PORT, and "
        "start all ranks by one launcher, such as torchrun."
    )


def _say(world: World, text: str, deadline_s: float) -> None:
    """On stderr, which pytest does not capture now; nobody else could tell why nothing happens."""
    left_s = max(0.0, deadline_s - time.monotonic())
    with suppress(OSError, ValueError):
        sys.stderr.write(f"loaderperf: rank {world.rank} on host {world.host}: {text}, for up to {left_s:.0f} s more\n")
        sys.stderr.flush()


def _opens(world: World) -> bool:
    return not (world.rank or world.agent_store)


def _store_of(world: World, timeout_s: float) -> Any:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # re-exported without saying so

    return TCPStore(
        world.address,
        world.port,
        is_master=_opens(world),
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,  # the user's own process group may open it too
    )


def _admit(world: World, store: Any, deadline_s: float, timeout_s: float) -> list[Peer]:
    """Rank 0: all other ranks, by rank."""
    token = secrets.token_hex(_TOKEN_BYTES)
    peers: dict[int, Peer] = {}
    with _listening_at(world.address) as listener:
        listener.settimeout(_POLL_SECONDS)
        told = json.dumps({"port": listener.getsockname()[1], "token": token})
        _bounded(lambda: store.set(_KEY, told), world, deadline_s, "the job's store to take a value")
        say_at_s = time.monotonic() + _QUIET_SECONDS
        while len(peers) < world.size - 1:
            if time.monotonic() > say_at_s:
                say_at_s = math.inf
                _say(world, f"waiting for {_absent(world, peers)} of {world.size} to join", deadline_s)
            if time.monotonic() > deadline_s:
                error = RankError(_missing(world, peers, timeout_s))
                for peer in peers.values():
                    with suppress(OSError):
                        peer.send("fail", FOREVER, "joining", str(error))
                    peer.close()
                raise error
            with suppress(OSError):
                peer = _admitted(listener.accept()[0], token, world)
                peers[peer.rank] = peer
    return [peers[rank] for rank in sorted(peers)]


def _listening_at(address: str) -> socket.socket:
    if address in _LOOPBACK:
        return socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _admitted(connection: socket.socket, token: str, world: World) -> Peer:
    """The rank that has connected. Raises OSError if it is none of this job."""
    try:
        connection.settimeout(_HELLO_SECONDS)
        with connection.makefile("rb") as file:
            said = json.loads(file.readline(1000))
        if not secrets.compare_digest(said["token"], token):
            raise ConnectionRefusedError
        peer = Peer(connection, said["rank"], said["host"], said["pid"], said["machine"])
        peer.send("welcome", 0, "joining", json.dumps(_about(world)))
    except (OSError, ValueError, TypeError, KeyError) as error:
        connection.close()
        raise ConnectionRefusedError from error
    return peer


def _absent(world: World, peers: dict[int, Peer]) -> str:
    missing = [rank for rank in range(1, world.size) if rank not in peers]
    return f"rank {missing[0]}" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))}"


def _missing(world: World, peers: dict[int, Peer], timeout_s: float) -> str:
    here = [f"0 on host {world.host}", *(f"{rank} on host {peer.host}" for rank, peer in sorted(peers.items()))]
    return (
        f"{_absent(world, peers)} of {world.size} did not join: expected all within {timeout_s:g} s, got rank "
        f"{', '.join(here)}. Look at the output of the missing, and start pytest with the same arguments on all ranks."
    )


def _find_rank0(world: World, store: Any, deadline_s: float) -> Peer:
    """Other ranks: rank 0. The store may still have the address of an earlier rank 0, which does not answer."""
    said: OSError | None = None
    while time.monotonic() < deadline_s:
        told = json.loads(_bounded(lambda: store.get(_KEY), world, deadline_s, "rank 0 to join"))
        try:
            return _welcomed(world, told)
        except OSError as error:
            said = error
        time.sleep(_POLL_SECONDS)
    raise RankError(
        f"rank {world.rank} on host {world.host}: expected rank 0 at {printable(world.address)} to answer, got "
        f"{printable(said)}. It may have ended before this rank came: look at its output. Or a firewall keeps the "
        "hosts apart: the ranks need to reach any port of rank 0, as torch.distributed does."
    )


def _welcomed(world: World, told: dict[str, Any]) -> Peer:
    connection = socket.create_connection((world.address, told["port"]), timeout=_HELLO_SECONDS)
    try:
        connection.sendall(json.dumps({"token": told["token"], **_about(world)}).encode() + b"\n")
        peer = Peer(connection)
        welcome = json.loads(peer.receive().content)
    except EOFError:
        connection.close()
        raise ConnectionRefusedError("it hung up") from None
    except OSError:
        connection.close()
        raise
    peer.host, peer.pid, peer.machine = welcome["host"], welcome["pid"], welcome["machine"]
    return peer


def _about(world: World) -> dict[str, Any]:
    return {"rank": world.rank, "host": world.host, "pid": os.getpid(), "machine": this_machine()}
