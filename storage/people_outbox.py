"""Passing on to the log what was noted of accounts (storage/people_event.py).

In the order in which it was noted, struck out once the log has it. A crash in between tells it
again under the same id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
import structlog

from bus.errors import MalformedEvent, SwarmError
from bus.event import Draft
from bus.payloads import payload_model
from bus.subjects import SYSTEM_RUN
from storage.postgres import Connection, Pool, translated

log = structlog.get_logger()

BATCH: Final = 64
# Whoever passes a row on holds it: another gateway takes those behind it.
_TAKE = """
select place, id, type, payload, user_id from people_event
order by place limit $1 for update skip locked
"""
_DONE = "delete from people_event where place = any($1)"


class PeopleOutbox:
    """What the log has still to be told. May raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each statement, and for the wait for a connection.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def pass_on(self, tell: Callable[[Draft], Awaitable[object]]) -> int:
        """Tell the oldest, in order; how many were told and struck out.

        What can never be told stays where it is and holds nothing up.

        Raises:
            SwarmError: one could not be told just now. Those before it are struck out.
        """
        with translated("pass on what was noted of accounts"):
            async with (
                self._pool.acquire(timeout=self._deadline_s) as connection,
                connection.transaction(),
            ):
                rows = await connection.fetch(_TAKE, BATCH, timeout=self._deadline_s)
                told, failure = await _told(rows, tell)
                await self._strike_out(connection, told)
        if failure is not None:
            raise failure
        return len(told)

    async def backlog(self) -> int:
        """How much is to be passed on."""
        with translated("count what was noted of accounts"):
            async with asyncio.timeout(self._deadline_s):
                count: int = await self._pool.fetchval("select count(*) from people_event")
        return count

    async def _strike_out(self, connection: Connection, told: Sequence[int]) -> None:
        if told:
            await connection.execute(_DONE, told, timeout=self._deadline_s)


async def _told(
    rows: Sequence[asyncpg.Record], tell: Callable[[Draft], Awaitable[object]]
) -> tuple[list[int], BaseException | None]:
    """Which of them were told, and what ended it before the last."""
    told: list[int] = []
    for row in rows:
        try:
            await tell(_draft(row))
        except asyncio.CancelledError as error:
            return told, error
        except SwarmError as error:
            if error.retryable:
                return told, error
            log.error("people_event.cannot_be_told", id=row["id"], code=error.code)
        else:
            told.append(row["place"])
    return told, None


def _draft(row: asyncpg.Record) -> Draft:
    try:
        payload = payload_model(row["type"]).model_validate_json(row["payload"])
    except ValueError as error:
        raise MalformedEvent(f"what was noted of accounts: {error}") from error
    return Draft(run=SYSTEM_RUN, payload=payload, id=row["id"], on_behalf_of=row["user_id"])
