"""Choosing TCP ports on the loopback interface."""

import errno
import random
import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from cluster.errors import PortTaken

LOOPBACK = "127.0.0.1"
_FIRST: Final = 10_000
_LAST: Final = 65_535
_ENOUGH: Final = 1_000
"""Fewer ports to draw from would be drawn twice."""
_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_chance = random.SystemRandom()

_claims: dict[int, int] = {}
"""File descriptors of what this process has claimed, by port: open until the process ends."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


def claim(port: int) -> bool:
    """Take the port for this process among all swarms of the machine, until the process ends.

    A port is chosen long before its server listens on it (the gateway's a minute before), and a
    second swarm that starts meanwhile must not choose it too. A bound name in Linux's abstract
    socket namespace is such a claim: seen by all, and gone with the process.
    """
    if port in _claims:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(f"\0swarm-port-{port}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        _claims[port] = holder.detach()
    return True


def drawn(host: str = LOOPBACK) -> int:
    """A port that nothing listens on now, by chance.

    Not one of those that the kernel gives to connections: such a one could be taken before the
    server listens on it, or while the server is started again.
    """
    lot = _lot()
    while True:
        port = _chance.choice(lot)
        if is_free(port, host):
            return port


def free(host: str = LOOPBACK) -> int:
    """A port as `drawn`, that no swarm has claimed, this one included."""
    while True:
        port = drawn(host)
        if port not in _claims and claim(port):
            return port


@cache
def _lot() -> Sequence[int]:
    """The ports to draw from."""
    low, high = map(int, _OF_CONNECTIONS.read_text().split())
    lot = [port for port in range(_FIRST, _LAST + 1) if not low <= port <= high]
    return lot if len(lot) >= _ENOUGH else range(_FIRST, _LAST + 1)


def choose(wanted: int | None, *, part: str, variable: str, preferred: int = 0) -> int:
    """The port a part shall listen on.

    Args:
        wanted: what the user asked for; 0 for a free one, None for no preference.
        part: for the error message.
        variable: the setting that names the port.
        preferred: taken when there is no wish and it is free.

    Raises:
        PortTaken: the user asked for a port that is in use.
    """
    if wanted is None:
        wanted = preferred if preferred and is_free(preferred) and claim(preferred) else 0
    if wanted == 0:
        return free()
    if not is_free(wanted) or not claim(wanted):
        raise taken(part, wanted, variable)
    return wanted


def taken(part: str, port: int, variable: str) -> PortTaken:
    """The error that names the part, the port and the setting."""
    return PortTaken(
        f"{part} cannot listen on port {port}: another program uses it. "
        f"Set {variable} to another port, or to 0 for a free one."
    )
