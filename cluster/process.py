"""One child process that the supervisor owns."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from cluster.errors import NotAnswering, PartFailed

Probe = Callable[[], Awaitable[object]]
"""Returns when the server is up; raises NotAnswering, OSError or TimeoutError when it is not."""

_CHILD = Path(__file__).with_name("child.py")

PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
LOG_TAIL_LINES = 8
KILL_GRACE_S = 5.0
"""A killed process is gone at once, unless the kernel holds it in an I/O call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """The user and group under which a child runs."""

    user: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run, and what happens to it when the supervisor dies."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends the child when the supervisor is killed."""
    run_as: RunAs | None = None
    input: bytes | None = field(default=None, repr=False)
    """Written to its standard input; None closes that."""


class Child:
    """A running child in its own process group, its output appended to a log file.

    It dies with the thread that started it: start it from the main thread.
    """

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self._process = process

    @classmethod
    async def start(cls, spec: ChildSpec) -> Self:
        """Start the process; it may not be ready for use yet.

        Raises:
            PartFailed: it cannot be started, or its log cannot be written.
        """
        run_as = spec.run_as or RunAs(user=-1, group=-1)
        channel = asyncio.subprocess.DEVNULL if spec.input is None else asyncio.subprocess.PIPE
        ties = (os.getpid(), int(spec.death_signal), run_as.user, run_as.group)
        arguments = ["-I", "-S", str(_CHILD), *map(str, ties), *spec.command]
        try:
            with _open_log(spec.log) as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *arguments,
                    stdin=channel,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    env=dict(spec.environment),
                    cwd=spec.folder,
                    process_group=0,
                )
        except OSError as error:
            raise PartFailed(f"{spec.name} cannot be started: {error}.") from error
        if process.stdin is not None and spec.input is not None:
            with suppress(ConnectionError):  # its exit status and log tell more
                process.stdin.write(spec.input)
                await process.stdin.drain()
            process.stdin.close()
        return cls(spec, process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for its end, however long; negative: the signal that ended it."""
        return await self._process.wait()

    async def wait_ready(
        self, probe: Callable[[], Awaitable[object]], *, deadline_s: float
    ) -> None:
        """Return once `probe` succeeds.

        Raises:
            PartFailed: it ended first, or the time is up; with the end of its log.
        """
        ended = asyncio.ensure_future(self.wait())
        try:
            async with asyncio.timeout(deadline_s):
                while not await _succeeds(probe):
                    await asyncio.wait([ended], timeout=PROBE_INTERVAL_S)
                    if ended.done():
                        raise self._failure(f"ended with status {ended.result()} while starting")
        except TimeoutError:
            raise self._failure(f"was not ready within {deadline_s:g} s") from None
        finally:
            ended.cancel()

    async def succeed(self, *, deadline_s: float) -> None:
        """Wait for its end with status 0.

        Raises:
            PartFailed: it failed, or the time is up; with the end of its log.
        """
        try:
            async with asyncio.timeout(deadline_s):
                status = await self.wait()
        except TimeoutError:
            await self.stop(signal.SIGKILL, grace_s=0)
            raise self._failure(f"did not end within {deadline_s:g} s") from None
        except asyncio.CancelledError:
            await self.stop(signal.SIGKILL, grace_s=0)
            raise
        if status != 0:
            raise self._failure(f"ended with status {status}")

    async def stop(self, first: signal.Signals = signal.SIGTERM, *, grace_s: float) -> None:
        """Ask it to end, kill its group after `grace_s`, and wait until it is gone."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, first)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.wait()
        with suppress(ProcessLookupError, PermissionError):  # what it may have left behind
            os.killpg(self.pid, signal.SIGKILL)
        async with asyncio.timeout(KILL_GRACE_S):
            await self.wait()

    def _failure(self, what: str) -> PartFailed:
        return PartFailed(
            f"{self.spec.name} {what}. Its log is {self.spec.log}{_tail(self.spec.log)}"
        )


def _open_log(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab")


async def _succeeds(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe()
    except (OSError, NotAnswering, TimeoutError):
        return False
    return True


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "."
    last = [line for line in lines if line.strip()][-LOG_TAIL_LINES:]
    return ", which ends with:\n  " + "\n  ".join(last) if last else ", and empty."
