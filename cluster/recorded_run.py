"""What the audit log holds of runs, for who reads those that have left the stream.

It is verified again, signature by signature, as of the place of the log where it stood.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from bus.event import StoredEvent
from bus.log import EventLog
from bus.received import Received, parsed
from bus.subjects import is_token
from cluster import state as states
from cluster.log_servers import of_running
from cluster.settings import Settings
from storage.audit_reader import AuditReader
from storage.leaf import AuditRecord
from storage.objects import AuditObjects
from storage.postgres import Pool, open_pool

_PLACE_DIGITS = 18


async def recorded_run(
    settings: Settings, log: EventLog, run: str, *, before: int | None = None
) -> list[Received]:
    """Everything that the audit log holds of a run, in the order of the stream.

    Args:
        settings: of the swarm.
        log: knows whom to believe, and opens what is sealed.
        run: its id.
        before: a place of the log; None for no end.

    Raises:
        AuditCorrupt: what an event refers to is gone.
        NotRunning, StorageError: nobody can say just now.
        BusUnreachable: the broker went away.
    """
    events: list[Received] = []
    async with _audit_log(settings) as pool:
        objects = AuditObjects(pool)
        async for row in AuditReader(pool).events(run):
            if before is None or row.record.stream_sequence < before:
                received = _received(row.record, await objects.content_of(row))
                events.append(await log.check_recorded(received))
    return events


async def recorded_events(settings: Settings, name: str) -> list[AuditRecord]:
    """What was accepted by that id, or at that place of the log.

    Raises:
        NotRunning, StorageError: nobody can say just now.
    """
    if not is_token(name):
        return []
    async with _audit_log(settings) as pool:
        reader = AuditReader(pool)
        rows = await reader.with_ids([name])
        if name.isdecimal() and len(name) <= _PLACE_DIGITS:
            rows += await reader.stretch(after=int(name) - 1, until=int(name))
    return [row.record for row in rows if row.record.verdict == "accepted"]


@asynccontextmanager
async def _audit_log(settings: Settings) -> AsyncIterator[Pool]:
    servers = of_running(settings, states.load_running(settings.located_home()))
    async with open_pool(servers.database_url, max_size=1) as pool:
        yield pool


def _received(record: AuditRecord, content: bytes | None) -> Received:
    received = parsed(
        record.subject,
        dict(record.raw_headers),
        record.data,
        record.stream_sequence,
        record.stored_at,
    )
    if content is None or not isinstance(received, StoredEvent):
        return received
    return replace(received, event=received.event.with_content(content))
