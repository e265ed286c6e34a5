"""What the audit log holds for the memory, in the order of the stream."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from storage.leaf import decode_envelope
from storage.postgres import Pool, translated

PAGE_EVENTS: Final = 256

# The types are written out as in the index of migration 0007, or it is not used.
_EVENTS = """
select e.stream_sequence, e.envelope, coalesce(o.content, e.data) as body,
       o.content is not null as is_object, e.data, e.stored_at
from audit_event e
left join audit_object o
    on o.digest = decode(substring(e.headers ->> 'ce-dataref' from '[0-9a-f]{64}'), 'hex')
where e.verdict = 'accepted' and e.type in (
    'swarm.memory.written.v1', 'swarm.memory.deleted.v1', 'swarm.memory.quarantined.v1',
    'swarm.memory.released.v1', 'swarm.run.completed.v1', 'swarm.run.failed.v1',
    'swarm.subject.forgotten.v1')
    and e.stream_sequence > $1 and e.stream_sequence <= $2
order by e.stream_sequence limit $3
"""
_SUBMISSION = """
select e.stream_sequence, e.envelope, coalesce(o.content, e.data) as body,
       o.content is not null as is_object, e.data, e.stored_at
from audit_event e
left join audit_object o
    on o.digest = decode(substring(e.headers ->> 'ce-dataref' from '[0-9a-f]{64}'), 'hex')
where e.run = $1 and e.type = 'swarm.run.submitted.v1' and e.verdict = 'accepted'
order by e.leaf_index limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An accepted event as the audit log keeps it.

    Attributes:
        content: what it refers to, where its payload is an object.
    """

    stream_sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes
    content: bytes | None
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Events for the memory, and the stream sequence up to which there are no others."""

    events: tuple[RecordedEvent, ...]
    until: int


class MemoryLog:
    """Reads the events that the memory is made from. May raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each query, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def after(self, place: int, *, limit: int = PAGE_EVENTS) -> Stretch:
        """The next events behind a stream sequence, at most so many."""
        with translated("read events for the memory"):
            async with asyncio.timeout(self._deadline_s):
                reach: int = await self._pool.fetchval("select stream_sequence from audit_head")
                rows = await self._pool.fetch(_EVENTS, place, reach, limit)
        events = tuple(map(_recorded, rows))
        until = events[-1].stream_sequence if len(events) == limit else reach
        return Stretch(events=events, until=until)

    async def submission(self, run: str) -> RecordedEvent | None:
        """The event that asked for a run, None where none is recorded."""
        with translated("read what a run was to do"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_SUBMISSION, run)
        return None if row is None else _recorded(row)


def _recorded(row: asyncpg.Record) -> RecordedEvent:
    subject, headers = decode_envelope(row["envelope"])
    return RecordedEvent(
        stream_sequence=row["stream_sequence"],
        subject=subject,
        headers=dict(headers),
        data=row["data"],
        content=row["body"] if row["is_object"] else None,
        stored_at=row["stored_at"],
    )
