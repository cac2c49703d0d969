# ruff: noqa: S603, S607 our own commands
"""Hosts on this machine: network namespaces, and a network between them that is slow, loses packets and can be cut.

A process relays the packets, so that no queueing discipline of the kernel (netem) is needed. A namespace and its device
exist as long as the processes in them and the relay's descriptors: whatever ends this process ends them.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1500
_IPV4, _DESTINATION = 4, slice(16, 20)  # of a packet: its version, the bytes of the address that it is for
_WAITS = """
hostname "$0" && mount --bind "$1" /etc/hosts && mount --bind /dev/null "$(realpath /etc/resolv.conf)" &&
ip link set lo up && echo up && read line
"""  # no server of names can be reached, and none is asked for


class HostsError(Exception):
    """This system does not let us make hosts; says why."""


class Hosts:
    """``size`` hosts, "host-0" at 10.77.0.1 and so on. A packet takes ``delay_s`` one way; a share ``loss`` is lost.

    Raises HostsError where this process may not make them.
    """

    def __init__(self, folder: Path, size: int, *, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self.names = [f"host-{number}" for number in range(size)]
        self.addresses = [f"10.77.0.{number + 1}" for number in range(size)]
        self._delay_s, self._loss = delay_s, loss
        self._cut: set[int] = set()
        self._open = ExitStack()
        self._holders: list[subprocess.Popen[str]] = []
        self._devices: list[int] = []
        self._random = random.Random(size)  # noqa: S311 which packets are lost
        names = folder / "hosts"
        lines = [f"{address} {name}" for address, name in zip(self.addresses, self.names, strict=True)]
        names.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        try:
            for number in range(size):
                self._add(number, names)
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            said = getattr(error, "stderr", "") or error
            raise HostsError(f"expected root, iproute2 and /dev/net/tun, got: {said}") from None
        reading, self._writing = os.pipe()
        self._relay = threading.Thread(target=self._run, args=(reading,), daemon=True)
        self._relay.start()

    def _add(self, number: int, names: Path) -> None:
        device, name = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK), f"lp{os.getpid()}n{number}"
        self._open.callback(os.close, device)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
        holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c", _WAITS, self.names[number], str(names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._holders.append(holder)
        if holder.stdout is None or holder.stdout.readline() != "up\n":
            raise subprocess.CalledProcessError(1, "unshare", stderr=holder.communicate()[1])
        self._devices.append(device)
        for command in (
            ["ip", "link", "set", name, "netns", str(holder.pid)],
            self.at(number, ["ip", "addr", "add", f"{self.addresses[number]}/24", "dev", name]),
            self.at(number, ["ip", "link", "set", name, "up", "mtu", str(_MTU)]),
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)

    def at(self, number: int, command: Sequence[str]) -> list[str]:
        """``command`` as it runs on that host, in the root folder."""
        return ["nsenter", "--target", str(self._holders[number].pid), "--net", "--uts", "--mount", *command]

    def start(self, number: int, command: Sequence[str], **popen: Any) -> subprocess.Popen[str]:
        """Start ``command`` on that host."""
        return subprocess.Popen(self.at(number, command), text=True, **popen)

    def cut(self, number: int) -> None:
        """From now on no packet reaches or leaves that host."""
        self._cut.add(number)

    def close(self) -> None:
        """End the network and the hosts; processes that run on them stay without one."""
        if self._devices and hasattr(self, "_writing"):
            os.close(self._writing)
            self._relay.join()
            self._devices = []
        self._open.close()
        for holder in self._holders:
            holder.communicate()
        self._holders = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, stop: int) -> None:
        """Relay packets until ``stop`` is closed at its other end."""
        selector = selectors.DefaultSelector()
        selector.register(stop, selectors.EVENT_READ)
        for device in self._devices:
            selector.register(device, selectors.EVENT_READ)
        hosts = {bytes(map(int, address.split("."))): number for number, address in enumerate(self.addresses)}
        numbers, waiting = count(), []
        while True:
            wait_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            for key, _ in selector.select(wait_s):
                if key.fd == stop:
                    selector.close()
                    os.close(stop)
                    return
                with suppress(OSError):
                    packet = os.read(key.fd, 2 * _MTU)
                    to = hosts.get(packet[_DESTINATION]) if packet[0] >> 4 == _IPV4 else None
                    if (
                        to is None
                        or self._random.random() < self._loss
                        or {to, self._devices.index(key.fd)} & self._cut
                    ):
                        continue
                    heapq.heappush(waiting, (time.monotonic() + self._delay_s, next(numbers), to, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(waiting)
                with suppress(OSError):
                    os.write(self._devices[to], packet)
