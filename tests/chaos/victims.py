"""The processes of a swarm that the tests kill, by what they are."""

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from actors.team import AGENTS
from cluster.home import Home
from cluster.process_table import processes
from cluster.settings import MARKER

POLL_S: Final = 0.01

Title = Callable[[str], bool]

_TITLES: Final[Mapping[str, Title]] = {
    **{role: f"ray::{agent.__name__}".__eq__ for role, agent in AGENTS.items()},
    "coordinator": "ray::CoordinatorActor".__eq__,
    "auditor": "ray::AuditorActor".__eq__,
    "authority": "ray::AuthorityActor".__eq__,
    "gateway": lambda title: title.startswith("ray::ServeReplica:gateway:"),
    "model": lambda title: title.startswith("ray::ServeReplica:model:"),
    "proxy": lambda title: title.startswith("ray::ProxyActor"),
    "controller": lambda title: title.startswith("ray::ServeController"),
    "nats": lambda title: "nats-server -c" in title,
    "valkey": lambda title: "valkey-server" in title,
    "postgres": lambda title: "/bin/postgres -D" in title,
    "postgres backend": lambda title: title.startswith("postgres: swarm swarm"),
    "raylet": lambda title: "/raylet --raylet_socket" in title,
    "gcs": lambda title: "/gcs_server --" in title,
    "ray node": lambda title: "cluster.ray_node" in title,
}
"""What is written in the process table of each kind of victim; Ray writes the actor's class."""

KINDS: Final = tuple(_TITLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """All that runs for the swarm of one home."""

    home: Home

    def all(self) -> list[psutil.Process]:
        """Everything, servers that have dropped their environment included."""
        return [process for process in processes() if self._is_ours(process)]

    def of(self, kind: str) -> list[psutil.Process]:
        """The processes of that kind that run now; where one calls itself again, the first."""
        fits = _TITLES[kind]
        found = [process for process in self.all() if fits(_title(process))]
        ids = {process.pid for process in found}
        return [process for process in found if _parent(process) not in ids]

    def kill(self, kind: str, *, deadline_s: float, chance: random.Random | None = None) -> int:
        """kill -9 one of that kind, as soon as there is one.

        Returns:
            Its process id.

        Raises:
            TimeoutError: none came up before the deadline.
        """
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            found = sorted(self.of(kind), key=lambda process: process.pid)
            if found:
                victim = found[0] if chance is None else chance.choice(found)
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
                    return victim.pid
            time.sleep(POLL_S)
        raise TimeoutError(f"no {kind} has come up within {deadline_s:g} s")

    def kill_all(self) -> int:
        """What a power cut does: kill -9 everything, until nothing is left; how many there were."""
        killed: set[int] = set()
        while left := self.all():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                killed.add(process.pid)
            psutil.wait_procs(left, timeout=POLL_S)
        return len(killed)

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.environ().get(MARKER) == self.home.instance:
                return True
            return self.home.root in Path(process.cwd()).parents
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0
