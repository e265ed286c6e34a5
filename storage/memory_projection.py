"""The memory as the fold of the audit log: each change applied once, in order, or not at all.

A batch and the place that it leads to go in together, so a crash anywhere repeats it from
where it was. Two projections of one database take turns on the place's row.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
import structlog

from storage.memory_change import (
    Deny,
    Forget,
    MemoryChange,
    Quarantine,
    RefusalCode,
    Release,
    Version,
    Write,
)
from storage.postgres import Connection, Pool, translated

log = structlog.get_logger()

_PLACE = "select stream_sequence from memory_place"
_LOCK_PLACE = "select stream_sequence from memory_place for update"
_MOVE_PLACE = "update memory_place set stream_sequence = $1 where stream_sequence < $1"
# One that went away by itself counts as not there, from the moment on that it had: by the event's
# time, and not by when somebody came to drop what it held, so that it comes out the same again.
_HEAD = """
select (select coalesce(max(version), 0) from memory
        where tenant = $1 and namespace = $2 and item = $3) as head,
       coalesce((select case when deleted or expires_at <= $4 then 0 else version end from memory m
        where tenant = $1 and namespace = $2 and item = $3 and hidden_by is null
        order by m.version desc limit 1), 0) as seen,
       (select event from memory_forgotten where person = $5) as forgotten
"""
_HIDES = """
select m.hidden_by from memory m
join unnest($2::text[], $3::text[], $4::bigint[]) as source (namespace, item, version)
    using (namespace, item, version)
join memory_quarantine q on q.event = m.hidden_by
where m.tenant = $1 and q.released_by is null limit 1
"""
_INSERT = """
insert into memory (tenant, namespace, item, version, kind, content, metadata, deleted, visible,
    hidden_by, expires_at, written_at, place, event, author, author_key, run, step, subject, reason)
values ($1, $2, $3, $4, $5, $6, $7, $8, false, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
_INSERT_SOURCES = """
insert into memory_source
select $1, $2, $3, $4, source.* from unnest($5::text[], $6::text[], $7::bigint[]) as source
on conflict do nothing
"""
_TOUCHED = "unnest($1::text[], $2::text[], $3::text[]) as t (tenant, namespace, item)"
_HIDE_ALL = f"""
update memory m set visible = false from {_TOUCHED}
where m.visible and (m.tenant, m.namespace, m.item) = (t.tenant, t.namespace, t.item)
"""  # noqa: S608 # nosec B608
_SHOW_LAST = f"""
update memory m set visible = true from (
    select distinct on (tenant, namespace, item) tenant, namespace, item, version, deleted
    from memory join {_TOUCHED} using (tenant, namespace, item)
    where hidden_by is null order by tenant, namespace, item, version desc
) last
where not last.deleted and (m.tenant, m.namespace, m.item, m.version)
    = (last.tenant, last.namespace, last.item, last.version)
"""  # noqa: S608 # nosec B608
_NOTE_CHANGES = f"""
insert into memory_change (tenant, namespace, item) select * from {_TOUCHED}
on conflict (tenant, namespace, item) do update set change = default
"""  # noqa: S608 # nosec B608
_QUARANTINE = """
with recursive hidden as (
    select tenant, namespace, item, version from memory
    where author = $2 and place >= $3 and place < $4
    union
    select s.tenant, s.namespace, s.item, s.version from memory_source s join hidden h
    on (s.tenant, s.source_namespace, s.source_item, s.source_version)
        = (h.tenant, h.namespace, h.item, h.version)
)
update memory m set hidden_by = $1, visible = false from hidden h
where m.hidden_by is null
    and (m.tenant, m.namespace, m.item, m.version) = (h.tenant, h.namespace, h.item, h.version)
returning m.tenant, m.namespace, m.item
"""
_RELEASE = """
with released as (
    update memory_quarantine set released_by = $2 where event = $1 and released_by is null
    returning event
)
update memory m set hidden_by = null from released where m.hidden_by = released.event
returning m.tenant, m.namespace, m.item
"""
# What the person deleted was not the person's alone: it stays away.
_FORGET = """
update memory set content = null, metadata = '{}', reason = '', visible = false,
    hidden_by = case when deleted then hidden_by else $2 end
where subject = $1 and place < $3 returning tenant, namespace, item
"""
_REFUSE = """
insert into memory_refusal (event, place, code, run, namespace, item, base, version, subject)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing
"""
_EXPIRE = """
update memory set content = null, metadata = '{}', reason = '', visible = false
where visible and expires_at <= $1 returning tenant, namespace, item
"""
_UNTOLD = "select * from memory_refusal where not told order by place limit $1"
_KNOWN = """
select t.event from unnest($1::text[], $2::text[]) as t (event, told)
where exists (select from audit_event where event_id = t.told)
"""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A write that did not take effect.

    Attributes:
        event: the id of the event that asked for it.
        version: that there was instead of `base`, 0 for none.
        subject: the person whom the event was about.
    """

    event: str
    code: RefusalCode
    run: str
    namespace: str
    item: str
    base: int | None
    version: int
    subject: str | None


class MemoryProjection:
    """The one writer of the memory. May raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def place(self) -> int:
        """The stream sequence up to which everything was applied."""
        with translated("read how far the memory has come"):
            async with asyncio.timeout(self._deadline_s):
                place: int = await self._pool.fetchval(_PLACE)
        return place

    async def apply(self, changes: Sequence[MemoryChange], *, after: int, until: int) -> int:
        """Apply changes in the order of the log; those that were applied before are passed over.

        Where the memory was cleared meanwhile, nothing is applied. A change that holds what
        Postgres cannot is passed over, alone: whoever wrote it must not stop all others.

        Args:
            changes: all there are behind `after`, up to `until`.
            after: the place from which they were read.
            until: the stream sequence that this leads to.

        Returns:
            The place from which to go on.
        """
        with translated("apply changes to the memory"):
            try:
                return await self._apply_all(changes, after, until, _apply)
            except asyncpg.DataError:
                return await self._apply_all(changes, after, until, _apply_or_pass_over)

    async def _apply_all(
        self, changes: Sequence[MemoryChange], after: int, until: int, apply: "_Apply"
    ) -> int:
        async with (
            asyncio.timeout(self._deadline_s),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            place: int = await connection.fetchval(_LOCK_PLACE)
            if place < after:
                return place
            for change in changes:
                if change.cause.place > place:
                    await apply(connection, change)
            await connection.execute(_MOVE_PLACE, until)
        return max(place, until)

    async def expire(self, now: datetime) -> int:
        """Drop what items held whose life is over; how many there were."""
        with translated("drop what has expired"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.fetchval(_LOCK_PLACE)
                touched = _keys(await connection.fetch(_EXPIRE, now))
                if touched:
                    await connection.execute(_NOTE_CHANGES, *_columns(touched))
        return len(touched)

    async def clear(self) -> None:
        """Forget all of it, so that it is made from the audit log again."""
        with translated("clear the memory"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.fetchval(_LOCK_PLACE)
                await connection.execute(
                    "truncate memory, memory_source, memory_quarantine, memory_refusal,"
                    " memory_forgotten, memory_change"
                )
                await connection.execute("update memory_place set stream_sequence = 0")

    async def untold(self, limit: int) -> list[Refusal]:
        """Refusals of which the log may not know yet, in order."""
        with translated("read what was refused"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_UNTOLD, limit)
        return [
            Refusal(**{name: row[name] for name in Refusal.__dataclass_fields__}) for row in rows
        ]

    async def told(self, refusals: Sequence[Refusal]) -> None:
        """Say that the log knows of them."""
        with translated("note what the log was told"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.execute(
                    "update memory_refusal set told = true where event = any($1::text[])",
                    [refusal.event for refusal in refusals],
                )

    async def recorded(self, told_by: Sequence[tuple[Refusal, str]]) -> set[str]:
        """Which refusals the audit log knows of already.

        Args:
            told_by: refusals, each with the id of the event that would tell of it.

        Returns:
            The ids of the refused events.
        """
        with translated("look for what the log was told"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    _KNOWN, [each.event for each, _ in told_by], [told for _, told in told_by]
                )
        return {row["event"] for row in rows}


_Apply = Callable[[Connection, MemoryChange], Awaitable[None]]


async def _apply_or_pass_over(connection: Connection, change: MemoryChange) -> None:
    try:
        async with connection.transaction():
            await _apply(connection, change)
    except asyncpg.DataError as error:
        log.error("memory.not_storable", event_id=change.cause.event, reason=str(error))


async def _apply(connection: Connection, change: MemoryChange) -> None:
    match change:
        case Write():
            await _write(connection, change)
        case Deny():
            await _refuse(connection, change, change.code, version=0)
        case Quarantine():
            await _quarantine(connection, change)
        case Release():
            await _release(connection, change)
        case Forget():
            await _forget(connection, change)


async def _write(connection: Connection, write: Write) -> None:
    """Of a person who is forgotten nothing is kept, though the key may be in use for a while."""
    cause = write.cause
    key = (cause.tenant, write.namespace, write.item)
    [(head, seen, forgotten)] = await connection.fetch(_HEAD, *key, cause.stored_at, cause.subject)
    if write.base is not None and write.base != seen:
        await _refuse(connection, write, "conflict", version=seen)
        return
    if write.is_deletion and not seen:
        return  # it is as wanted
    sources = list(write.sources)
    if write.base:
        sources.append(Version(namespace=write.namespace, item=write.item, version=write.base))
    columns = (
        [source.namespace for source in sources],
        [source.item for source in sources],
        [source.version for source in sources],
    )
    hidden_by = await connection.fetchval(_HIDES, cause.tenant, *columns) if sources else None
    if forgotten:
        write = replace(write, content=None, metadata={}, reason="")
        hidden_by = hidden_by if write.is_deletion else forgotten
    await connection.execute(
        _INSERT,
        *key,
        head + 1,
        write.kind,
        write.content,
        json.dumps(dict(write.metadata)),
        write.is_deletion,
        hidden_by,
        write.expires_at,
        *(cause.stored_at, cause.place, cause.event, cause.author, cause.author_key, cause.run),
        *(write.step, cause.subject, write.reason),
    )
    if sources:
        await connection.execute(_INSERT_SOURCES, *key, head + 1, *columns)
    await _show_last(connection, [key])


async def _refuse(
    connection: Connection, refused: Write | Deny, code: RefusalCode, *, version: int
) -> None:
    cause = refused.cause
    await connection.execute(
        _REFUSE,
        cause.event,
        cause.place,
        code,
        cause.run,
        refused.namespace,
        refused.item,
        refused.base,
        version,
        cause.subject,
    )


async def _quarantine(connection: Connection, change: Quarantine) -> None:
    cause = change.cause
    await connection.execute(
        "insert into memory_quarantine (event, agent, since, place) values ($1, $2, $3, $4)"
        " on conflict do nothing",
        *(cause.event, change.agent, change.since, cause.place),
    )
    rows = await connection.fetch(_QUARANTINE, cause.event, change.agent, change.since, cause.place)
    await _show_last(connection, _keys(rows))


async def _release(connection: Connection, change: Release) -> None:
    """What another quarantine hides as well stays hidden, by that one."""
    touched = _keys(await connection.fetch(_RELEASE, change.quarantine, change.cause.event))
    for other in await connection.fetch(
        "select * from memory_quarantine where released_by is null order by place"
    ):
        bounds = other["event"], other["agent"], other["since"], other["place"]
        touched += _keys(await connection.fetch(_QUARANTINE, *bounds))
    await _show_last(connection, touched)


async def _forget(connection: Connection, change: Forget) -> None:
    cause = change.cause
    await connection.execute(
        "insert into memory_forgotten (person, event) values ($1, $2) on conflict do nothing",
        *(change.person, cause.event),
    )
    rows = await connection.fetch(_FORGET, change.person, cause.event, cause.place)
    await _show_last(connection, _keys(rows))


async def _show_last(connection: Connection, touched: Sequence[_Key]) -> None:
    """Make the last version visible that is not hidden, of each of these items."""
    if not touched:
        return
    columns = _columns(touched)
    await connection.execute(_HIDE_ALL, *columns)
    await connection.execute(_SHOW_LAST, *columns)
    await connection.execute(_NOTE_CHANGES, *columns)


def _keys(rows: Sequence[asyncpg.Record]) -> list[_Key]:
    return [(row["tenant"], row["namespace"], row["item"]) for row in rows]


def _columns(keys: Sequence[_Key]) -> tuple[list[str], list[str], list[str]]:
    unique = list(dict.fromkeys(keys))
    return (
        [tenant for tenant, _, _ in unique],
        [namespace for _, namespace, _ in unique],
        [item for _, _, item in unique],
    )
