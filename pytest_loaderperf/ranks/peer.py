"""Another rank of the job: the socket to it, and what is known of the process at its end."""

from __future__ import annotations

import pickle
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SILENT_SECONDS = 10.0  # without a sign of life, after which a rank is dead if it is stopped or its host does not answer
FOREVER = 1 << 62  # the part of a failure that ends the job
_STOPPED = "TtZX"  # states of a process that Linux shows: stopped, traced, dead
_TCP_INFO = struct.Struct("8x13I")  # the last of these: milliseconds since something was confirmed
_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 20  # bytes that may take SILENT_SECONDS to send


class Message(NamedTuple):
    """What one rank sends another. ``part``: the piece of work it belongs to; ``doing``: the sender's stage."""

    kind: str
    part: int
    doing: str
    content: Any = None


def this_machine() -> str:
    """What processes have in common whose numbers mean the same; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


class Peer:
    """The rank ``rank`` on ``host``, as process ``pid``. Any thread may send; one thread receives."""

    def __init__(
        self, connection: socket.socket, rank: int = 0, host: str = "", pid: int = 0, machine: str = ""
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SILENT_SECONDS)
        self._socket = connection
        self._sending = threading.Lock()
        self.rank, self.host, self.pid, self.machine = rank, host, pid, machine
        self.inbox: deque[Message] = deque()
        self.heard_s = time.monotonic()
        self.doing, self.part = "joining", 0
        self.stack = ""  # where its main thread stands, once asked
        self.gone = self.left = False

    def __str__(self) -> str:
        return f"rank {self.rank} on host {self.host} (process {self.pid})"

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        """Send a Message of these fields. Raises OSError if nothing of it leaves for SILENT_SECONDS."""
        body = pickle.dumps(message)
        data = memoryview(_LENGTH.pack(len(body)) + body)
        with self._sending:
            for begin in range(0, len(data), _CHUNK):
                self._socket.sendall(data[begin : begin + _CHUNK])

    def receive(self) -> Message:
        """Its next message. Raises OSError, or EOFError once the other end is closed."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        message = Message(*pickle.loads(self._exactly(length)))  # noqa: S301 only a rank knows the job's token
        self.heard_s, self.doing = time.monotonic(), message.doing
        return message

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            received = self._socket.recv_into(rest)
            if not received:
                raise EOFError
            rest = rest[received:]
        return data

    @property
    def is_stopped(self) -> bool:
        """Whether its process is on this machine, and stopped."""
        if not self.machine or self.machine != this_machine():
            return False
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in _STOPPED
        except (OSError, IndexError):
            return False

    @property
    def is_unanswered(self) -> bool:
        """Whether its host has confirmed nothing for SILENT_SECONDS; False where the system does not say."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        facts = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        last_ack_ms: int = _TCP_INFO.unpack(facts)[-1]
        return last_ack_ms > 1000 * SILENT_SECONDS

    def hang_up(self) -> None:
        """End the connection for both sides."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket, in this process alone."""
        self._socket.close()
