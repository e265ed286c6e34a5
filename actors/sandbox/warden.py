"""The first process of the sandbox: starts the program, watches it, and takes all with it.

When this process ends the kernel kills every other one of its namespace, before anybody learns
that it ended. So nothing is left, however the program tried to stay.
"""

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from actors.sandbox import jail
from actors.sandbox.outcome import Ending, Limits
from actors.sandbox.request import Report, Request

_TICK_MS: Final = 50
_KIB: Final = 1024
_STATUS_BYTES: Final = 4_096
_BURIALS: Final = 64
_NICENESS: Final = 10
"""Below the agents: what they do not hear in time costs them their lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What the sandbox uses at one moment."""

    tasks: int
    memory_bytes: int
    disk_is_full: bool

    def excess(self, limits: Limits) -> Ending | None:
        """The limit that is reached, if any."""
        if self.tasks > limits.processes:
            return "processes"
        if self.memory_bytes > limits.memory_bytes:
            return "memory"
        return "disk" if self.disk_is_full else None


def watch(request: Request, proc: int, lifeline: int) -> Report:
    """Run the program to its end, or end it at a limit.

    Args:
        request: the program.
        proc: a descriptor of /proc.
        lifeline: reads as closed once nobody waits for this any more.
    """
    _be_the_first_to_go(proc)
    began = time.monotonic()
    program = os.fork()
    if program == 0:
        jail.enter(request)
    ended, peak_bytes = _wait(request.limits, program, proc, lifeline, began)
    exit_status, cpu_s = None, 0.0
    if ended == "finished":
        _, status, usage = os.wait4(program, 0)
        code = os.waitstatus_to_exitcode(status)
        exit_status, cpu_s = code if code >= 0 else 128 - code, usage.ru_utime + usage.ru_stime
        ended = _ending(code, cpu_s, request.limits)
    last, sizes = census(proc), _file_sizes()
    if ended in ("finished", "signal") and exit_status != 0:
        largest = max(sizes, default=0)
        too_large: Ending | None = "file_size" if largest >= request.limits.file_bytes else None
        ended = too_large or last.excess(request.limits) or ended
    return Report(
        ending=ended,
        exit_status=exit_status,
        wall_s=round(time.monotonic() - began, 3),
        cpu_s=round(cpu_s, 3),
        memory_bytes=max(peak_bytes, last.memory_bytes),
        files=len(sizes),
        left_behind=0 if exit_status is None else len(_others(proc)),
    )


def census(proc: int) -> Census:
    """Count what is in use. What ends meanwhile is not counted."""
    tasks = memory_kib = 0
    for process in _others(proc):
        try:
            status = _status(proc, process)
        except OSError:
            continue  # it ended
        tasks += status.get("Threads", 0)
        memory_kib += status.get("RssAnon", 0) + status.get("RssShmem", 0)
    disk = os.statvfs(jail.SCRATCH)
    return Census(
        tasks=tasks,
        memory_bytes=memory_kib * _KIB + (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        disk_is_full=disk.f_bfree == 0 or disk.f_ffree == 0,
    )


def _wait(
    limits: Limits, program: int, proc: int, lifeline: int, began: float
) -> tuple[Ending, int]:
    """Until the program ends or is at a limit; also the most memory that was seen in use."""
    peak_bytes = 0
    poll = select.poll()
    handle = os.pidfd_open(program)
    poll.register(handle, select.POLLIN)
    poll.register(lifeline, 0)  # its end is told without asking
    while True:
        for descriptor, _ in poll.poll(_TICK_MS):
            if descriptor == handle:
                return "finished", peak_bytes
            return "timeout", peak_bytes
        if time.monotonic() - began >= limits.wall_s:
            return "timeout", peak_bytes
        now = census(proc)
        peak_bytes = max(peak_bytes, now.memory_bytes)
        if (reached := now.excess(limits)) is not None:
            return reached, peak_bytes
        _bury(program)


def _ending(code: int, cpu_s: float, limits: Limits) -> Ending:
    if code >= 0:
        return "finished"
    if code == -signal.SIGXFSZ:
        return "file_size"
    is_cpu = code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_s >= limits.cpu_s)
    return "cpu" if is_cpu else "signal"


def _bury(program: int) -> None:
    """Wait for what lost its parent and ended; not for the program, whose end is told."""
    for _ in range(_BURIALS):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_pid == program:
            return
        os.waitpid(ended.si_pid, 0)


def _be_the_first_to_go(proc: int) -> None:
    """If the machine runs out of memory, let it be this and not an agent that is ended."""
    descriptor = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    os.write(descriptor, b"1000")
    os.close(descriptor)
    os.nice(_NICENESS)


def _others(proc: int) -> list[str]:
    return [each for each in os.listdir(proc) if each.isdecimal() and each != "1"]


def _status(proc: int, process: str) -> dict[str, int]:
    descriptor = os.open(f"{process}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        text = os.read(descriptor, _STATUS_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
    told = (line.split() for line in text.splitlines())
    return {
        words[0].rstrip(":"): int(words[1])
        for words in told
        if len(words) > 1 and words[1].isdecimal()
    }


def _file_sizes() -> list[int]:
    """Sizes of the files that are there. One that goes meanwhile, or cannot be named, has none."""
    sizes = []
    for folder, _, names in os.walk(jail.SCRATCH):
        for name in names:
            with suppress(OSError):
                sizes.append(os.lstat(os.path.join(folder, name)).st_size)  # noqa: PTH118 - texts
    return sizes
