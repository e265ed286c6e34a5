"""The parent of the supervisor: sees to it that nothing outlives it.

The kernel gives every orphan among our descendants to this process (PR_SET_CHILD_SUBREAPER):
Ray's workers, vLLM's engine, a server's helpers. When the supervisor has ended, for whatever
reason, all that is left is killed; if it died, another one takes its place. If this process is
killed instead, the supervisor is told (PR_SET_PDEATHSIG) and goes on without it.
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
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
"""Between a supervisor that died and the next: what kills it at once each time may last."""
STEADY_S = 60.0
"""After running this long, a death counts as the first again."""
GUARD_GONE = signal.SIGUSR1
"""What the kernel sends the supervisor when this process is killed."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL_S = 0.02


def run(supervise: Callable[[bool], int], goes_on: Callable[[int, bool], bool]) -> int:
    """Run `supervise` in a child of this process, again for as long as it is to go on.

    Must be called while the process has a single thread. Whoever asks this process to end asks
    the child, and for no further one.

    Args:
        supervise: told whether it follows on one that died; returns the exit status.
        goes_on: whether another is to follow, by the status (negative: the signal that ended
            it) and whether it was itself one that followed.

    Returns:
        The exit status of the last.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    line = _Line()
    again, pause_s = False, FIRST_PAUSE_S
    while True:
        began = time.monotonic()
        status = line.have_done(lambda: supervise(again))  # noqa: B023  called at once
        kill_descendants(grace_s=0 if status >= 0 else CRASH_GRACE_S)
        if line.is_to_end or not goes_on(status, again):
            return status if status >= 0 else 128 - status
        if time.monotonic() - began > STEADY_S:
            pause_s = FIRST_PAUSE_S
        line.wait(pause_s)
        if line.is_to_end:
            return 0
        again, pause_s = True, min(pause_s * 2, LONGEST_PAUSE_S)


class _Line:
    """The children of this process, one after the other, and the signals that they are passed."""

    def __init__(self) -> None:
        self.is_to_end = False
        self._child = 0
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)

    def have_done(self, work: Callable[[], int]) -> int:
        """Do the work in a child; its exit status, negative: the signal that ended it."""
        guard = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # or one could reach it half made
        self._child = os.fork()
        if self._child == 0:
            for number in _PASSED_ON:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(GUARD_GONE, signal.SIG_IGN)  # until it is listened to
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            _prctl(PR_SET_PDEATHSIG, GUARD_GONE)
            # Not os._exit: the child is this program from here on.
            sys.exit(1 if os.getppid() != guard else work())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        status = _reap_until(self._child)
        self._child = 0
        return status

    def wait(self, pause_s: float) -> None:
        """Let time pass, unless it is to end."""
        until = time.monotonic() + pause_s
        while not self.is_to_end and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.is_to_end = True
        if self._child == 0:
            return
        with suppress(ProcessLookupError):
            os.kill(self._child, number)


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
    with suppress(OSError):  # a full disk is no reason to leave the swarm without a guard
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
