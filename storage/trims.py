"""What may leave the stream, and what has left it: runs that are over, all of them audited.

A trim is recorded before the stream is purged, so that whoever compares the stream with the
audit log never takes it for a loss. A crash between the two leaves a trim that is not purged,
which the next round finds here. It is withdrawn if the run was taken up again meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bus.payloads import RetryRequested, RunCancelled, RunCompleted, RunFailed
from bus.subjects import SYSTEM_RUN
from storage.postgres import Pool, translated

LIFE = (RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE, RetryRequested.TYPE)
"""Events that end a run or open it again."""
_ENDED = """
select e.run from audit_event e cross join lateral (
    select l.stream_sequence from audit_event l
    where l.run = e.run order by l.leaf_index desc limit 1
) last
where e.verdict = 'accepted' and e.run <> $2
  and e.type in ('swarm.run.completed.v1', 'swarm.run.failed.v1', 'swarm.run.cancelled.v1')
  and not exists (
    select from audit_trim t
    where t.run = e.run and t.stream_sequence >= last.stream_sequence
  )
order by e.leaf_index limit $1
"""
# Sizes are those of the columns: nothing is read out of the compressed store for them.
_DESCRIBED = """
select e.run,
    array_agg(e.type order by e.leaf_index)
        filter (where e.verdict = 'accepted' and e.type = any($2::text[])) as life,
    max(e.stream_sequence) as stream_sequence,
    max(e.stored_at) as last_stored_at,
    coalesce(sum(length(e.envelope) + length(e.data))
        filter (where e.stream_sequence > t.up_to), 0)::bigint as event_bytes,
    coalesce(sum((substring(e.headers->>'ce-dataref' from '[0-9]+$'))::bigint)
        filter (where e.verdict = 'accepted' and e.stream_sequence > t.up_to), 0)::bigint
        as object_bytes
from audit_event e cross join lateral (
    select coalesce(max(stream_sequence), 0) as up_to from audit_trim where run = e.run
) t
where e.run = any($1::text[])
group by e.run order by max(e.stored_at)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRun:
    """A run in the audit log.

    Attributes:
        run: its id.
        life: types of the events that ended it or opened it again, in order.
        stream_sequence: of its last audited event.
        last_stored_at: when the stream stored that one.
        event_bytes: of subjects, headers and data of what was not trimmed yet, refused events
            among it; object_bytes of their objects.
    """

    run: str
    life: tuple[str, ...]
    stream_sequence: int
    last_stored_at: datetime
    event_bytes: int
    object_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Everything of a run up to a stream sequence has left the stream, or is about to."""

    run: str
    stream_sequence: int


class TrimStore:
    """Where trims are recorded.

    Every method may raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each call.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def ended(self, limit: int) -> list[AuditedRun]:
        """Runs with an end in the audit log of which the stream may hold something, oldest first.

        Whether such a run was opened again is for the caller to judge by its life.

        Args:
            limit: most ends to look at.
        """
        with translated("look for runs that have ended"):
            async with asyncio.timeout(self._deadline_s), self._pool.acquire() as connection:
                runs = await connection.fetch(_ENDED, limit, SYSTEM_RUN)
                names = sorted({row["run"] for row in runs})
                rows = await connection.fetch(_DESCRIBED, names, LIFE)
        return [AuditedRun(**{**row, "life": tuple(row["life"] or ())}) for row in map(dict, rows)]

    async def record(self, runs: Sequence[AuditedRun]) -> None:
        """Say that these runs are about to leave the stream, up to what was audited."""
        with translated("record a trim"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.executemany(
                    "insert into audit_trim (run, stream_sequence) values ($1, $2)"
                    " on conflict do nothing",
                    [(run.run, run.stream_sequence) for run in runs],
                )

    async def unpurged(self) -> list[Trim]:
        """Trims that were recorded and, as far as is known, not yet done."""
        with translated("look for trims to do"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    "select run, stream_sequence from audit_trim where purged_at is null"
                    " order by stream_sequence"
                )
        return [Trim(**dict(row)) for row in rows]

    async def withdraw(self, trim: Trim) -> None:
        """Forget a trim that was not done: what it took out all the same counts as lost."""
        with translated("withdraw a trim"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.execute(
                    "delete from audit_trim"
                    " where run = $1 and stream_sequence = $2 and purged_at is null",
                    trim.run,
                    trim.stream_sequence,
                )

    async def purged(self, trim: Trim) -> None:
        """Say that a trim is done."""
        with translated("note that a trim is done"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.execute(
                    "update audit_trim set purged_at = clock_timestamp()"
                    " where run = $1 and stream_sequence = $2",
                    trim.run,
                    trim.stream_sequence,
                )
