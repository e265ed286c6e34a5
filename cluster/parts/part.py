"""What the supervisor needs of each part, and of each kind of embedded server."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.process import ChildSpec


class Part(Protocol):
    """One thing under the swarm, owned by the supervisor from start to stop."""

    @property
    def name(self) -> str:
        """How it is called in progress, logs and health."""
        ...

    async def start(self) -> str:
        """Bring it up, ready for use, and return its address without any password.

        Raises:
            ClusterError: it did not come up; nothing of it is left running.
        """
        ...

    async def probe(self) -> str:
        """A word on its health; raises NotAnswering, OSError or TimeoutError."""
        ...

    async def watch(self) -> None:
        """Keep it up until cancelled.

        Raises:
            PartFailed: it ended and cannot be brought back.
        """
        ...

    async def stop(self) -> None:
        """End it, and return when it is gone; harmless if it never started."""
        ...


class Recipe(Protocol):
    """How one kind of server is started on this machine."""

    @property
    def name(self) -> str:
        """The part's name."""
        ...

    async def prepare(self, port: int) -> None:
        """Write its configuration, make its data directory."""
        ...

    def command(self, port: int) -> ChildSpec:
        """What to run so that it listens on the port."""
        ...

    async def ready(self, port: int) -> str:
        """Probe it."""
        ...

    def address(self, port: int) -> str:
        """Its address without any password."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """What differs between servers in how they are kept."""

    port: int
    """The port that was asked for; 0 for a free one."""
    port_variable: str
    """The setting that names the port."""
    start_timeout_s: float
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    restarts: bool = True
    """Whether it may be started again in place after it died."""
    changed_at: Callable[[], int] = lambda: 0
    """Another number than before: it may be outdated now."""
    is_outdated: Callable[[], bool] = lambda: False
    """Whether it has to be started anew to learn what it was not told at its start."""
