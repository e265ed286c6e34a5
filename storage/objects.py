"""Payloads that stand beside their event: kept by digest, in the batch of the event."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from bus.errors import MalformedEvent
from bus.reference import DATAREF, ObjectReference
from storage.audit_reader import PAGE_EVENTS
from storage.audit_rows import AuditEvent
from storage.errors import AuditCorrupt
from storage.postgres import Connection, Pool, translated

_OWED = """
select e.leaf_index, e.run, e.sender_key, e.headers->>'ce-dataref' as dataref
from audit_event e
where e.headers ? 'ce-dataref' and e.verdict = 'accepted' and e.leaf_index > $1
  and not exists (
    select from audit_trim t where t.run = e.run and t.stream_sequence >= e.stream_sequence
  )
order by e.leaf_index limit $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedObject:
    """An object that the stream must hold, because an accepted event there refers to it."""

    leaf_index: int
    run: str
    key: str
    reference: ObjectReference

    def __str__(self) -> str:
        return f"{self.reference.size} bytes of event {self.leaf_index} in run {self.run}"


class AuditObjects:
    """Reads the objects that the audit log keeps.

    Args:
        pool: the database, migrated.
        deadline_s: for each query, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def owed(self, *, after: int = -1, limit: int = PAGE_EVENTS) -> list[OwedObject]:
        """What recorded events refer to whose runs were not trimmed, in log order.

        Args:
            after: leaf index before the first.
            limit: most to return; ask again after the last of them.
        """
        with translated("read which objects there must be"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_OWED, after, limit)
        return [
            OwedObject(
                leaf_index=row["leaf_index"],
                run=row["run"],
                key=row["sender_key"],
                reference=ObjectReference.parse(row["dataref"]),
            )
            for row in rows
        ]

    async def content_of(self, event: AuditEvent) -> bytes | None:
        """The object that a recorded event refers to.

        None where it refers to none, and where none was found when it was audited: such an
        event was refused.

        Raises:
            AuditCorrupt: the event was accepted with an object, which is gone or another one.
            StorageUnavailable, StorageRefused: the database did not answer.
        """
        reference = reference_of(dict(event.record.raw_headers))
        if reference is None:
            return None
        content = await self.content(bytes.fromhex(reference.digest))
        if content is None and event.record.verdict == "accepted":
            message = f"The audit log has lost the object of event {event.leaf_index}."
            raise AuditCorrupt(message)
        return content

    async def content(self, digest: bytes) -> bytes | None:
        """The object with that SHA-256.

        Raises:
            AuditCorrupt: what is kept has another digest.
            StorageUnavailable, StorageRefused: the database did not answer.
        """
        with translated("read an object"):
            async with asyncio.timeout(self._deadline_s):
                content: bytes | None = await self._pool.fetchval(
                    "select content from audit_object where digest = $1", digest
                )
        if content is not None and sha256(content).digest() != digest:
            message = f"The object {digest.hex()} was altered where the audit log keeps it."
            raise AuditCorrupt(message)
        return content


async def keep_objects(connection: Connection, contents: Iterable[bytes]) -> None:
    """Store objects in the transaction of the connection; what is there already stays."""
    rows = {sha256(content).digest(): content for content in contents}
    if rows:
        await connection.executemany(
            "insert into audit_object (digest, content) values ($1, $2) on conflict do nothing",
            sorted(rows.items()),
        )


def reference_of(headers: Mapping[str, str]) -> ObjectReference | None:
    """The object that recorded headers refer to; None where they name none that could be."""
    try:
        return ObjectReference.parse(headers[DATAREF]) if DATAREF in headers else None
    except MalformedEvent:
        return None
