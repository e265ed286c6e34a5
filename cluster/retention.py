"""Keeping the streams within their bounds: ended, audited runs leave them, a round a minute.

Only here is a credential made that may purge; it lives as long as a round.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from actors.authority import vouch
from actors.member import Domain, as_member
from actors.retention import Room, Rules, to_trim
from actors.watch import follows_audit
from bus.connection import Connection
from bus.errors import SwarmError
from bus.identity import LAUNCHER_ROLE, Authority
from bus.nkey import AgentKey
from bus.reference import OBJECTS
from bus.subjects import STREAM
from bus.trim import can_be_trimmed, goes_on, purge_run, stream_bytes, was_reopened
from storage.audit_reader import AuditReader
from storage.postgres import open_pool
from storage.trims import Trim, TrimStore

log = structlog.get_logger()

INTERVAL_S: Final = 60.0
ROUND_LIMIT_S: Final = 300.0
RUNS_A_ROUND: Final = 2_000


class Retention:
    """Trims the streams of one swarm."""

    def __init__(
        self,
        root: Authority,
        domain: Domain,
        database_url: str,
        rules: Rules,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Take note; nothing is opened.

        Args:
            root: vouches for the credential that purges.
            domain: where the streams are.
            database_url: where the audit log is.
            rules: how long ended runs stay.
            interval_s: seconds between two rounds.
        """
        self._root = root
        self._domain = domain
        self._database_url = database_url
        self._rules = rules
        self._interval_s = interval_s

    async def run(self) -> None:
        """Trim until cancelled. A round that fails is made up for by the next."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                async with asyncio.timeout(ROUND_LIMIT_S):
                    await self.round()
            except (SwarmError, TimeoutError) as error:
                log.warning("retention.round_failed", reason=str(error) or "took too long")

    async def round(self) -> int:
        """Trim what has to go now; how many runs went: none where the stream has lost events.

        Raises:
            StorageError: the audit log does not answer.
            BusUnreachable: the broker does not.
        """
        async with (
            open_pool(self._database_url, max_size=2) as pool,
            self._connected() as connection,
        ):
            if not await can_be_trimmed(connection):
                return 0
            if not await follows_audit(connection, AuditReader(pool)):
                # What is new there has the numbers of what was audited and may go.
                log.warning("retention.stream_is_not_as_audited")
                return 0
            return await self._trim(connection, TrimStore(pool))

    async def _trim(self, connection: Connection, store: TrimStore) -> int:
        rooms = [await stream_bytes(connection, stream) for stream in (STREAM, OBJECTS)]
        events, objects = (Room(used_bytes=used, max_bytes=bound) for used, bound in rooms)
        ended = await store.ended(RUNS_A_ROUND)
        now = datetime.now(UTC)
        chosen = to_trim(ended, rules=self._rules, now=now, events=events, objects=objects)
        audited = [
            run
            for run in chosen
            if not await goes_on(connection, run.run, after=run.stream_sequence)
        ]
        await store.record(audited)
        purged = [await _purge(connection, store, trim) for trim in await store.unpurged()]
        if any(purged):
            log.info("retention.trimmed", runs=sum(purged))
        return sum(purged)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        key = AgentKey.generate()
        credential = vouch(
            self._root,
            self._domain.policy(),
            key.public,
            role=LAUNCHER_ROLE,
            name=LAUNCHER_ROLE,
            ttl=timedelta(seconds=ROUND_LIMIT_S),
        )
        async with as_member(self._domain, key, credential) as event_log:
            yield event_log.connection


async def _purge(connection: Connection, store: TrimStore, trim: Trim) -> bool:
    """Do a trim, be it of an earlier round, unless its run was taken up again since.

    A retry that comes between the look and the purge is seen after it: then what is gone counts
    as lost, which raises an alarm, and a recovery puts it back from the audit log.
    """
    if await was_reopened(connection, trim.run, after=trim.stream_sequence):
        await store.withdraw(trim)
        log.info("retention.withdrawn", run=trim.run)
        return False
    await purge_run(connection, trim.run, up_to=trim.stream_sequence)
    if await was_reopened(connection, trim.run, after=trim.stream_sequence):
        await store.withdraw(trim)
        log.error("retention.reopened_while_purged", run=trim.run)
        return False
    await store.purged(trim)
    return True
