"""Reading the whole audit log at one moment and checking it: what `swarm audit verify` does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from storage.audit_check import (
    Finding,
    Replay,
    Row,
    check_checkpoints,
    check_head,
    check_tables,
    first_changed_node,
)
from storage.audit_rows import EVENT_COLUMNS, PreparedBatch
from storage.checkpoint import Checkpoint
from storage.errors import AuditCorrupt
from storage.note import VerifierKey
from storage.postgres import Connection, Pool, translated

PAGE: Final = 500
DEADLINE_S: Final = 120.0
"""For each query; the one for objects reads all of them."""
_EVENTS = f"""
select {", ".join(EVENT_COLUMNS)} from audit_event
where leaf_index > $1 order by leaf_index limit $2
"""  # noqa: S608 # nosec B608
_NODES = """
select n.level, n.index, n.hash
from audit_node n join unnest($1::smallint[], $2::bigint[]) as wanted (level, index)
using (level, index)
"""
_OBJECTS = """
select e.stream_sequence, o.digest is null as gone
from audit_event e
left join audit_object o
     on o.digest = decode(split_part(e.headers ->> 'ce-dataref', ':', 3), 'hex')
where e.headers ? 'ce-dataref' and e.verdict = 'accepted'
      and (o.digest is null or sha256(o.content) <> o.digest)
order by e.leaf_index limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """How much was read, the root that it makes, and the first thing that is wrong, if any."""

    events: int
    checkpoints: int
    root: bytes
    finding: Finding | None


class LogChecker:
    """Checks the audit log, beside a writer or without one.

    Args:
        pool: the database, migrated.
        key: what checks the log's checkpoints.
    """

    def __init__(self, pool: Pool, key: VerifierKey) -> None:
        self._pool = pool
        self._key = key

    async def check(self, kept: Checkpoint | None = None) -> LogCheck:
        """Read everything that was there when it began.

        Args:
            kept: an earlier checkpoint, verified, that the log must continue.

        Raises:
            AuditCorrupt: the head is lost.
            StorageError: the database did not answer.
        """
        async with self._moment() as connection:
            return await _Reading(connection, self._key).check(kept)

    @asynccontextmanager
    async def _moment(self) -> AsyncIterator[Connection]:
        with translated("check the audit log"):
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield connection


class _Reading:
    """One pass over the log."""

    def __init__(self, connection: Connection, key: VerifierKey) -> None:
        self._connection = connection
        self._key = key
        self._replay = Replay()
        self._roots: dict[int, bytes] = {}
        self._nodes = 0

    async def check(self, kept: Checkpoint | None) -> LogCheck:
        heads = await self._query("select size, root, stream_sequence from audit_head")
        if not heads:
            raise AuditCorrupt("The audit log has lost its head row.")
        signed = await self._query("select size, root, note from audit_checkpoint order by size")
        sizes = {row["size"] for row in signed} | ({kept.size} if kept else set())
        finding = await self._events(sizes)
        root = self._replay.position.frontier.root()
        finding = finding or check_head(heads[0], self._replay, root)
        finding = finding or check_checkpoints(signed, self._roots, self._replay, self._key)
        if finding is None and kept is not None and self._roots.get(kept.size) != kept.root:
            what = f"the log does not continue the checkpoint of {kept.size} leaves that was kept"
            finding = Finding(stream_sequence=None, what=what)
        finding = finding or await self._tables() or await self._objects()
        events = self._replay.position.size
        return LogCheck(events=events, checkpoints=len(signed), root=root, finding=finding)

    async def _events(self, sizes: set[int]) -> Finding | None:
        after = -1
        while rows := await self._query(_EVENTS, after, PAGE):
            frontier = self._replay.position.frontier
            batch, found = await asyncio.to_thread(self._replay.take, rows)
            found = (await self._stored(batch) if batch else None) or found
            if batch is None or found:
                return found
            leaves = [node.hash for node in batch.nodes if node.level == 0]
            for size in sorted(sizes & set(range(frontier.size + 1, batch.after.size + 1))):
                begun, _ = frontier.append(leaves[: size - frontier.size])
                self._roots[size] = begun.root()
            after = rows[-1]["leaf_index"]
        return None

    async def _stored(self, batch: PreparedBatch) -> Finding | None:
        levels = [node.level for node in batch.nodes]
        rows = await self._query(_NODES, levels, [node.index for node in batch.nodes])
        stored = {(row["level"], row["index"]): row["hash"] for row in rows}
        self._nodes += len(levels)
        return first_changed_node(batch.nodes, stored, self._replay.sequences)

    async def _tables(self) -> Finding | None:
        counted = await self._query("select count(*) as nodes from audit_node")
        if counted[0]["nodes"] != self._nodes:
            what = "there are Merkle nodes that no row makes"
            return Finding(stream_sequence=None, what=what)
        runs = await self._query("select run, events from audit_run")
        chains = await self._query("select sender_key, sequence, digest from audit_chain")
        return check_tables(
            {row["run"]: row["events"] for row in runs},
            {row["sender_key"]: (row["sequence"], row["digest"]) for row in chains},
            self._replay,
        )

    async def _objects(self) -> Finding | None:
        for row in await self._query(_OBJECTS):
            at = row["stream_sequence"]
            lost = "lost" if row["gone"] else "changed"
            what = f"the object of the event at stream sequence {at} was {lost}"
            return Finding(stream_sequence=at, what=what)
        return None

    async def _query(self, query: str, *arguments: object) -> Sequence[Row]:
        rows = await self._connection.fetch(query, *arguments, timeout=DEADLINE_S)
        return cast("Sequence[Row]", rows)  # the driver does not say that a row is a mapping
