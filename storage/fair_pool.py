"""A pool of connections that serves who waits in the order in which they came.

asyncpg's own gives a connection to whoever asks at the moment when it is free, and puts who
was woken for it at the end of the line: under load some wait ten times as long as most.
"""

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy

    _Pool = asyncpg.Pool[asyncpg.Record]
    _Use = PoolAcquireContext[asyncpg.Record]
else:  # they are generic in the stubs only
    _Pool, _Use = asyncpg.Pool, asyncpg.pool.PoolAcquireContext

UNUSED_S: Final = 300.0
"""How long a connection that nobody uses is kept."""
USES: Final = 50_000
"""How many statements a connection serves before another takes its place."""


class FairPool(_Pool):
    """Connections of which each use waits its turn.

    Nothing is undone after a use: no statement of ours leaves anything in a session, and the
    pool itself ends transactions. What asyncpg would send is a round trip for each statement.

    Args:
        dsn: address, ``postgresql://user:password@host:port/database``.
        min_size: connections kept open.
        max_size: most connections at once.
        connect_timeout_s: for each connection.
        command_timeout_s: for each statement that gives no timeout of its own.
    """

    __slots__ = ("turns",)

    def __init__(
        self,
        dsn: str,
        *,
        min_size: int,
        max_size: int,
        connect_timeout_s: float,
        command_timeout_s: float,
    ) -> None:
        super().__init__(
            dsn,
            min_size=min_size,
            max_size=max_size,
            max_queries=USES,
            max_inactive_connection_lifetime=UNUSED_S,
            loop=asyncio.get_running_loop(),
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            reset=_leave_as_it_is,
            timeout=connect_timeout_s,
            command_timeout=command_timeout_s,
        )
        self.turns = asyncio.Semaphore(max_size)

    def acquire(self, *, timeout: float | None = None) -> _Use:
        """A connection for an ``async with``; the timeout is for the turn and the connection."""
        return _Turn(self, timeout)


class _Turn(_Use):
    """asyncpg's use of a connection, inside a turn."""

    __slots__ = ("_turns",)

    def __init__(self, pool: FairPool, timeout: float | None) -> None:
        super().__init__(pool, timeout)
        self._turns = pool.turns

    async def __aenter__(self) -> "PoolConnectionProxy[asyncpg.Record]":
        async with asyncio.timeout(self.timeout):
            await self._turns.acquire()
            try:
                return await super().__aenter__()
            except BaseException:
                self._turns.release()
                raise

    async def __aexit__(self, *exc: object) -> None:
        try:
            await super().__aexit__(*exc)
        finally:
            self._turns.release()


async def _leave_as_it_is(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Undo nothing."""
