"""Processes of a swarm whose guard and supervisor were both killed."""

import time
from contextlib import suppress

import psutil

from cluster.home import Home
from cluster.process_table import processes
from cluster.settings import MARKER

_POLL_S = 0.05


def find(home: Home) -> list[psutil.Process]:
    """Processes that carry this home's mark in their environment, other than our own line."""
    mine = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    return [p for p in processes() if p.pid not in mine and bears_mark(p, home)]


def bears_mark(process: psutil.Process, home: Home) -> bool:
    """Whether a process carries this home's mark; one that has ended carries none."""
    with suppress(psutil.Error, OSError):
        return process.environ().get(MARKER) == home.instance
    return False


def end(home: Home, *, grace_s: float, limit_s: float) -> int:
    """Ask them to end, kill them after `grace_s`, and return how many are left at `limit_s`.

    Only for a home whose lock is free, or whose swarm did not stop in time.
    """
    began = time.monotonic()
    left = find(home)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    while left and time.monotonic() - began < limit_s:
        if time.monotonic() - began >= grace_s:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(_POLL_S)
        left = find(home)
    return len(left)
