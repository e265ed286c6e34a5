"""Passing on to the log what was noted of accounts (storage/people_event.py).

In the order in which it was noted, struck out once the log has it. A crash in between tells it
again under the same id, which the stream notices for a while; of what was noted longer ago the
audit log is asked first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from bus.errors import MalformedEvent, SwarmError
from bus.event import Draft
from bus.payloads import payload_model
from bus.provision import DUPLICATE_WINDOW_S
from bus.subjects import SYSTEM_RUN
from storage.postgres import Pool, translated

log = structlog.get_logger()

BATCH: Final = 64
SURELY_KNOWN_S: Final = DUPLICATE_WINDOW_S / 2
"""For so long after it was noted the stream still knows the id of what was told."""
# Whoever passes a row on holds it: another gateway takes those behind it.
_TAKE = """
with taken as (
    select place, id, type, payload, user_id, noted_at from people_event
    where place > $1 order by place limit $2 for update skip locked
)
select place, id, type, payload, user_id,
    noted_at < clock_timestamp() - make_interval(secs => $3) and exists (
        select from audit_event e
        where e.event_id = taken.id and e.type = taken.type and e.verdict = 'accepted'
    ) as is_recorded
from taken order by place
"""
_DONE = "delete from people_event where place = any($1)"

Tell = Callable[[Draft], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passed:
    """What became of the rows of one transaction.

    Attributes:
        told: how many the log has from now on.
        last: place of the last one; None where no more were there to take.
        failure: what ended it before that.
    """

    told: int
    last: int | None
    failure: BaseException | None


class PeopleOutbox:
    """What the log has still to be told. May raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each statement, and for the wait for a connection.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._complained_of: set[int] = set()

    async def pass_on(self, tell: Tell) -> int:
        """Tell all that is noted, in order; how many were told and struck out.

        What can never be told stays where it is and holds nothing up. What the audit log shows
        to have been told before is struck out only.

        Raises:
            SwarmError: one could not be told just now. Those before it are struck out.
        """
        told = 0
        last: int | None = 0
        while last is not None:
            passed = await self._pass_on_behind(last, tell)
            if passed.failure is not None:
                raise passed.failure
            told, last = told + passed.told, passed.last
        return told

    async def backlog(self) -> int:
        """How much is to be passed on."""
        with translated("count what was noted of accounts"):
            async with asyncio.timeout(self._deadline_s):
                count: int = await self._pool.fetchval("select count(*) from people_event")
        return count

    async def _pass_on_behind(self, place: int, tell: Tell) -> _Passed:
        """Tell what is noted behind a place, as much as goes into a transaction."""
        with translated("pass on what was noted of accounts"):
            async with (
                self._pool.acquire(timeout=self._deadline_s) as connection,
                connection.transaction(),
            ):
                rows = await connection.fetch(
                    _TAKE, place, BATCH, SURELY_KNOWN_S, timeout=self._deadline_s
                )
                recorded = [row["place"] for row in rows if row["is_recorded"]]
                new = [row for row in rows if not row["is_recorded"]]
                told, failure = await self._told(new, tell)
                if done := recorded + told:
                    await connection.execute(_DONE, done, timeout=self._deadline_s)
        last = rows[-1]["place"] if len(rows) == BATCH else None
        return _Passed(told=len(told), last=last, failure=failure)

    async def _told(
        self, rows: Sequence[asyncpg.Record], tell: Tell
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
                self._complain(row, error)
            else:
                told.append(row["place"])
        return told, None

    def _complain(self, row: asyncpg.Record, error: SwarmError) -> None:
        """Say once that it can never be told: it is tried again each time."""
        if row["place"] not in self._complained_of:
            self._complained_of.add(row["place"])
            log.error("people_event.cannot_be_told", id=row["id"], code=error.code)


def _draft(row: asyncpg.Record) -> Draft:
    try:
        payload = payload_model(row["type"]).model_validate_json(row["payload"])
    except ValueError as error:
        raise MalformedEvent(f"what was noted of accounts: {error}") from error
    return Draft(run=SYSTEM_RUN, payload=payload, id=row["id"], on_behalf_of=row["user_id"])
