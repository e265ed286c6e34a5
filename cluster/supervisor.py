"""The daemon behind `swarm up`: starts all parts, keeps them up, stops them.

    python -P -m cluster.supervisor    settings on standard input, as one line of JSON

Standard input is also the control pipe: when it closes before the swarm is ready, whoever asked
for the swarm is gone, and everything is stopped again. Once it was ready, it is kept up: where
Ray or this process itself dies, the guard starts another supervisor in its place.
"""

import asyncio
import importlib
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
from cluster.application import bundle_of, workers_of
from cluster.assembly import Assembly, assemble, trust_in
from cluster.errors import ClusterError, HomeInUse, StartTimeout
from cluster.home import Home, open_home
from cluster.parts.part import Part
from cluster.settings import Settings
from cluster.state import (
    EXIT_ALREADY_RUNNING,
    Failure,
    Phase,
    Progress,
    ProgressWriter,
    PublicAddresses,
    State,
)
from cluster.succession import EXIT_LOST, cause_of, goes_on, same_ports
from cluster.versions import installed

log = structlog.get_logger()

EXIT_FAILED = 1

SWEEP_S = 10.0
"""How long killing what is left may take."""

_CONTROL = 0


class Launched(Protocol):
    """The actors and Serve applications, running."""

    async def stop(self) -> None:
        """End them in order."""
        ...


Launch = Callable[[Settings, Home, Addresses, ProgressWriter], Awaitable[Launched]]
"""cluster.launch.start; tests pass their own."""


class Supervisor:
    """One swarm from start to stop, in the process that owns its servers."""

    def __init__(
        self, settings: Settings, home: Home, launch: Launch, *, after: State | None = None
    ) -> None:
        """Prepare to start.

        Args:
            settings: of the swarm.
            home: locked by this process.
            launch: starts what runs on the servers.
            after: what one wrote down that died: its place and addresses are taken over.
        """
        self._settings = settings if after is None else same_ports(settings, after)
        self._home = home
        self._launch = launch
        self._is_second = after is not None
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
            embedding_profile=settings.embedder(),
            further_profiles=settings.further_profiles(),
            gateway_certificate=settings.gateway_tls_certificate,
            versions=installed(),
            addresses=PublicAddresses() if after is None else after.addresses,
            workers=() if after is None else after.workers,
            bundle="" if after is None else after.bundle,
        )

    async def run(self) -> int:
        """Start, wait for the end, stop; the process's exit status."""
        self._listen()
        self._save()
        assembly: Assembly | None = None
        failure: SwarmError | None = None
        try:
            assembly = assemble(self._settings, self._home, trust_in(self._home))
            await self._until_stop(self._start(assembly))
            if not self._stop_wanted.is_set():
                self._listen()  # a library may have taken the signals over meanwhile
                await self._until_stop(_keep_up(assembly.parts))
        except SwarmError as error:
            log.error("swarm.failed", code=error.code, reason=str(error))
            failure = error
        finally:
            lost = failure is not None and self._is_kept_up()
            if lost:
                self._update(phase=Phase.STARTING)
                self._launched = None  # it may hang on what broke down; the guard ends it
            await self._stop(assembly, failure, lost=lost)
            if not self._is_guarded():  # the guard was killed: its duty falls to us
                await asyncio.to_thread(stragglers.end, self._home, grace_s=0, limit_s=SWEEP_S)
        return EXIT_LOST if lost else EXIT_FAILED if failure else 0

    def _is_kept_up(self) -> bool:
        has_begun = self._is_second or self._state.phase is Phase.READY
        return has_begun and self._is_guarded() and not self._stop_wanted.is_set()

    def _is_guarded(self) -> bool:
        return os.getppid() == self._state.guard_pid

    def _unguarded(self) -> None:
        if self._state.phase is Phase.READY:
            log.warning("guard.died")
        else:
            self._stop_wanted.set()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_wanted.set)
        loop.add_signal_handler(guard.GUARD_GONE, self._unguarded)
        if self._state.phase is Phase.STARTING and not self._is_second:
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
            raise cause_of(error)

    async def _start(self, assembly: Assembly) -> None:
        preload = asyncio.create_task(asyncio.to_thread(importlib.import_module, "cluster.launch"))
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                async with asyncio.TaskGroup() as group:
                    for part in assembly.parts:
                        group.create_task(self._start_part(part))
                addresses = assembly.addresses()
                workers = await asyncio.to_thread(workers_of, self._settings)
                bundle = await asyncio.to_thread(bundle_of, self._settings)
                self._update(addresses=addresses.public(), workers=workers, bundle=bundle)
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

    async def _stop(
        self, assembly: Assembly | None, failure: SwarmError | None, *, lost: bool
    ) -> None:
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
        elif not lost:
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
    except HomeInUse as error:
        log.error("swarm.refused", reason=str(error))
        return EXIT_ALREADY_RUNNING
    except (ClusterError, OSError) as error:
        log.error("swarm.refused", reason=str(error))
        return EXIT_FAILED

    async def supervise(after: State | None) -> int:
        status = await Supervisor(settings, home, launch, after=after).run()
        with suppress(OSError):
            sys.stderr.flush()
        # Not a return: that would wait for worker threads, and one that hangs in Ray never ends.
        os._exit(status)

    return guard.run(
        lambda again: asyncio.run(supervise(states.load(home) if again else None)),
        lambda status, again: goes_on(status, states.load(home), again=again),
    )


if __name__ == "__main__":
    sys.exit(main())
