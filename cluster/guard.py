"""The parent of the supervisor: sees to it that nothing outlives it.

The kernel gives every orphan among our descendants to this process (PR_SET_CHILD_SUBREAPER):
Ray's workers, vLLM's engine, a server's helpers. When the supervisor has ended, for whatever
reason, all that is left is killed. If this process is killed instead, the supervisor gets a
SIGTERM (PR_SET_PDEATHSIG) and stops everything itself.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import psutil

from cluster.child import PR_SET_PDEATHSIG

PR_SET_CHILD_SUBREAPER = 36

CRASH_GRACE_S = 3.0
"""After a crash the servers have had a death signal: time to close their files."""
SWEEP_LIMIT_S = 10.0
_POLL_S = 0.02


def run(supervise: Callable[[], int]) -> int:
    """Run `supervise` in a child of this process and return its exit status.

    Must be called while the process has a single thread.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guard:  # it died before the line above
            return 1
        return supervise()

    def forward(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(supervisor, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    status = _reap_until(supervisor)
    kill_descendants(grace_s=0 if status >= 0 else CRASH_GRACE_S)
    return status if status >= 0 else 128 - status


def kill_descendants(*, grace_s: float) -> None:
    """Wait `grace_s` for this process's descendants to end, then kill those left, and reap."""
    kill_after = time.monotonic() + grace_s
    give_up_at = kill_after + SWEEP_LIMIT_S
    while time.monotonic() < give_up_at:
        while _reap_one():
            pass
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        if time.monotonic() >= kill_after:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(_POLL_S)
    sys.stderr.write("Some processes could not be killed; the kernel holds them in I/O.\n")


def _reap_until(supervisor: int) -> int:
    """Reap every child that ends, the supervisor at last; negative: the signal that ended it."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == supervisor:
            return os.waitstatus_to_exitcode(status)


def _reap_one() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
