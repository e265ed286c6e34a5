"""An embedded server: started on a port, kept up on the same port and data, stopped."""

import asyncio
import time

import structlog

from cluster import ports
from cluster.errors import ClusterError, PartFailed, PortTaken
from cluster.parts.part import Custom, Recipe
from cluster.process import Child

log = structlog.get_logger()

PORT_ATTEMPTS = 3
"""A free port may be taken by another program before the server listens on it."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 1.0
"""All stand still without it, and another attempt a second is no burden."""
LOOK_S = 0.3
"""Between two looks at whether a server has to be started anew."""
STEADY_S = 5.0
"""After running this long, a death counts as the first again: what cannot run dies sooner."""


class Server:
    """A Part that runs a server on loopback as a child of the supervisor."""

    def __init__(self, recipe: Recipe, custom: Custom) -> None:
        self._recipe = recipe
        self._custom = custom
        self._child: Child | None = None
        self._port = 0

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self._recipe.name

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """Its process id, once started."""
        return self._child.pid if self._child else None

    async def start(self) -> str:
        """Start it on the port asked for, or on a free one."""
        custom = self._custom
        attempts = PORT_ATTEMPTS if custom.port == 0 else 1
        for attempt in range(1, attempts + 1):
            self._port = ports.choose(custom.port, part=self.name, variable=custom.port_variable)
            try:
                await self._launch()
                break
            except PartFailed as error:
                if isinstance(error, PortTaken) or ports.is_free(self._port):
                    raise
                if attempt == attempts:
                    raise ports.taken(self.name, self._port, custom.port_variable) from error
        return self._recipe.address(self._port)

    async def probe(self) -> str:
        """Ask it whether it is up."""
        return await self._recipe.ready(self._port)

    async def watch(self) -> None:
        """Start it again whenever it dies, more and more slowly, until cancelled.

        Raises:
            PartFailed: it died and is of a kind that cannot be started again in place.
        """
        pause_s = FIRST_PAUSE_S
        while self._child is not None:
            began = time.monotonic()
            status = await self._end_of(self._child)
            if status is None:
                log.info("part.outdated", part=self.name)
                pause_s = 0.0
            else:
                log.error("part.died", part=self.name, status=status, log=str(self._child.spec.log))
            if not self._custom.restarts:
                raise PartFailed(
                    f"{self.name} ended with status {status}. Its log is {self._child.spec.log}."
                )
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            while not await self._restarted(pause_s):
                pause_s = min(max(pause_s, FIRST_PAUSE_S) * 2, LONGEST_PAUSE_S)
            pause_s = min(max(pause_s, FIRST_PAUSE_S) * 2, LONGEST_PAUSE_S)

    async def stop(self) -> None:
        """Ask it to end; kill it if it takes too long."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop(self._custom.stop_signal, grace_s=self._custom.stop_grace_s)

    async def _end_of(self, child: Child) -> int | None:
        """Wait until the server dies: its status. None: it was ended, being outdated."""
        ended = asyncio.ensure_future(child.wait())
        seen: int | None = None
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=LOOK_S)
                now = self._custom.changed_at()
                if now != seen and not ended.done():
                    seen = now
                    if await asyncio.to_thread(self._custom.is_outdated):
                        await child.stop(
                            self._custom.stop_signal, grace_s=self._custom.stop_grace_s
                        )
                        return None
            return ended.result()
        finally:
            ended.cancel()

    async def _launch(self) -> None:
        await self._recipe.prepare(self._port)
        child = await Child.start(self._recipe.command(self._port))
        try:
            await child.wait_ready(
                lambda: self._recipe.ready(self._port), deadline_s=self._custom.start_timeout_s
            )
        except BaseException:
            await asyncio.shield(child.stop(self._custom.stop_signal, grace_s=2.0))
            raise
        self._child = child

    async def _restarted(self, pause_s: float) -> bool:
        await asyncio.sleep(pause_s)
        try:
            await self._launch()
        except (ClusterError, OSError) as error:  # a full disk may have room again later
            log.warning("part.restart_failed", part=self.name, reason=str(error))
            return False
        log.warning("part.restarted", part=self.name, port=self._port)
        return True
