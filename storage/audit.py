"""Writing the audit log: batches of events into a Merkle tree in Postgres.

Rows, nodes and checkpoint of a batch go in together or not at all. Nothing
here decides what is accepted; the auditor does, before.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from bus.subjects import TRUST_RUN
from storage.audit_reader import AuditReader
from storage.audit_rows import (
    EVENT_COLUMNS,
    NODE_COLUMNS,
    Position,
    PreparedBatch,
    node_rows,
    prepare,
)
from storage.errors import AuditConflict, AuditCorrupt, AuditRewritten, AuditUnordered
from storage.leaf import AuditRecord, encode_envelope
from storage.merkle import edge_nodes, load_frontier
from storage.objects import keep_objects
from storage.postgres import Connection, Pool, translated
from storage.usage_rows import USAGE_COLUMNS

_COUNTS = "select run, events from audit_run where run = any($1::text[])"
_MOVE_HEAD = """
    with counted as (
        insert into audit_run (run, events) select * from unnest($4::text[], $5::bigint[])
        on conflict (run) do update set events = excluded.events
    )
    update audit_head set size = $1, root = $2, stream_sequence = $3
"""
_MOVE_CHAIN = """
    insert into audit_chain (sender_key, sequence, digest) values ($1, $2, $3)
    on conflict (sender_key) do update set sequence = excluded.sequence, digest = excluded.digest
    where audit_chain.sequence < excluded.sequence
"""

Sign = Callable[[int, bytes], str]
"""Signs (tree size, root) and returns the checkpoint note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """The audit log after an append.

    Attributes:
        size: number of leaves.
        root: 32-byte root hash at that size.
        stream_sequence: last stream sequence recorded.
        note: signed checkpoint for that size; None while the log is empty.
        stored: records that this call added; repeated ones are not counted.
    """

    size: int
    root: bytes
    stream_sequence: int
    note: str | None
    stored: int


class AuditStore(AuditReader):
    """The one writer of the audit log, and a reader as well.

    A second writer does no harm: whoever comes late gets AuditConflict, and
    the next call starts from what the other one stored. Calls to one store
    take turns.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        super().__init__(pool, deadline_s=deadline_s)
        self._turn = asyncio.Lock()
        self._known: Position | None = None

    async def position(self) -> Position:
        """How far the log has come, read from the database.

        Raises:
            AuditCorrupt: nodes are missing, or do not lead to the recorded root.
        """
        async with self._turn:
            self._known = await self._load()
            return self._known

    async def append(self, batch: Sequence[AuditRecord], sign: Sign) -> LogState:
        """Records a batch: all of it with a signed checkpoint, or nothing.

        Safe to repeat after any failure: records that the log already has are
        compared with what it has, then skipped. The checkpoint is signed just
        before the commit; until this returns it must not be handed on, and
        with a lost commit the same tree is signed again.

        Args:
            batch: in strictly rising stream order.
            sign: called once for a batch that adds something; must be quick.

        Raises:
            AuditConflict: another writer appended first; repeat.
            AuditUnordered: the batch is not in stream order; nothing was stored.
            AuditRewritten: a repeated record differs from the recorded one.
            AuditCorrupt: the stored tree does not add up.
        """
        _check_order(batch)
        async with self._turn:
            if self._known is None:
                self._known = await self._load()
            position = self._known
            repeated = [r for r in batch if r.stream_sequence <= position.stream_sequence]
            if repeated:
                await self._compare(repeated)
            if len(repeated) == len(batch):
                return await self._state(position)
            fresh = batch[len(repeated) :]
            counts = await self._counts({TRUST_RUN, *(record.run for record in fresh)})
            prepared = await asyncio.to_thread(prepare, position, counts, fresh)
            self._known = None  # what a failed commit left behind is read anew
            note = await self._store(position, prepared, sign)
            self._known = prepared.after
        return LogState(
            size=prepared.after.size,
            root=prepared.root,
            stream_sequence=prepared.after.stream_sequence,
            note=note,
            stored=len(prepared.rows),
        )

    async def _counts(self, runs: Iterable[str]) -> dict[str, int]:
        """Leaves of each run; another writer's, in between, are met when the head is locked."""
        with translated("read how long the runs are"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_COUNTS, list(runs))
        return {row["run"]: row["events"] for row in rows}

    async def _store(self, position: Position, batch: PreparedBatch, sign: Sign) -> str:
        with translated("append to the audit log"):
            try:
                async with (
                    asyncio.timeout(self._deadline_s),
                    self._pool.acquire() as connection,
                    connection.transaction(),
                ):
                    await _lock_head(connection, position)
                    return await _write(connection, batch, sign)
            except asyncpg.UniqueViolationError as error:
                message = f"The audit log has more than the {position.size} leaves of its head."
                raise AuditCorrupt(message) from error

    async def _load(self) -> Position:
        with translated("read the audit log's position"):
            async with asyncio.timeout(self._deadline_s):
                head = await self._pool.fetchrow(
                    "select size, stream_sequence, root from audit_head"
                )
        if head is None:
            raise AuditCorrupt("The audit log has lost its head row.")
        size: int = head["size"]
        nodes = await self._nodes(edge_nodes(size))
        frontier = load_frontier(size, lambda level, index: nodes[level, index])
        if frontier.root() != head["root"]:
            message = f"The audit log's nodes do not lead to its recorded root at size {size}."
            raise AuditCorrupt(message)
        return Position(size=size, stream_sequence=head["stream_sequence"], frontier=frontier)

    async def _state(self, position: Position) -> LogState:
        checkpoint = await self.checkpoint(position.size)
        return LogState(
            size=position.size,
            root=position.frontier.root(),
            stream_sequence=position.stream_sequence,
            note=None if checkpoint is None else checkpoint.note,
            stored=0,
        )

    async def _compare(self, repeated: Sequence[AuditRecord]) -> None:
        """A repeat must be byte for byte what was recorded; verdicts may have changed."""
        sequences = [record.stream_sequence for record in repeated]
        with translated("compare repeated events"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    "select stream_sequence, envelope, data from audit_event"
                    " where stream_sequence = any($1::bigint[])",
                    sequences,
                )
        recorded = {row["stream_sequence"]: (row["envelope"], row["data"]) for row in rows}
        for record in repeated:
            received = (encode_envelope(record.subject, record.raw_headers), record.data)
            if recorded.get(record.stream_sequence) != received:
                message = (
                    f"The stream shows at sequence {record.stream_sequence} another event"
                    " than the audit log recorded."
                )
                raise AuditRewritten(message)


async def _lock_head(connection: Connection, position: Position) -> None:
    head = await connection.fetchrow("select size, stream_sequence from audit_head for update")
    if head is None:
        raise AuditCorrupt("The audit log has lost its head row.")
    if (head["size"], head["stream_sequence"]) != (position.size, position.stream_sequence):
        message = f"The audit log has {head['size']} leaves, not {position.size}: another wrote."
        raise AuditConflict(message)


async def _write(connection: Connection, batch: PreparedBatch, sign: Sign) -> str:
    await keep_objects(connection, batch.objects)
    await connection.copy_records_to_table("audit_event", records=batch.rows, columns=EVENT_COLUMNS)
    await connection.copy_records_to_table(
        "audit_node", records=node_rows(batch.nodes), columns=NODE_COLUMNS
    )
    await connection.executemany(_MOVE_CHAIN, batch.chains)
    if batch.usage:
        await connection.copy_records_to_table(
            "model_usage", records=batch.usage, columns=USAGE_COLUMNS
        )
    size, root = batch.after.size, batch.root
    note = sign(size, root)
    await connection.execute(
        "insert into audit_checkpoint (size, root, note) values ($1, $2, $3)", size, root, note
    )
    await connection.execute(
        _MOVE_HEAD,
        size,
        root,
        batch.after.stream_sequence,
        list(batch.counts.keys()),
        list(batch.counts.values()),
    )
    return note


def _check_order(batch: Sequence[AuditRecord]) -> None:
    for before, record in itertools.pairwise(batch):
        if record.stream_sequence <= before.stream_sequence:
            message = (
                f"Stream sequence {record.stream_sequence} stands after"
                f" {before.stream_sequence} in a batch."
            )
            raise AuditUnordered(message)
