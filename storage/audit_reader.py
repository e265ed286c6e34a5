"""Reading the audit log: summaries, events, refusals and proofs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bus.signing import ChainHead
from storage.audit_rows import EVENT_COLUMNS, AuditEvent, in_column
from storage.errors import AuditCorrupt
from storage.merkle import GetNode, consistency_proof, inclusion_proof
from storage.postgres import Pool, translated

PAGE_EVENTS = 500
"""Rows read at a time; at 256 KiB of data each, 128 MiB at the very worst."""
COLUMNS = ", ".join(column for column in EVENT_COLUMNS if column != "headers")
_SUMMARY = """
select count(e.leaf_index) as events,
       count(e.leaf_index) filter (where e.verdict = 'accepted') as accepted,
       count(e.leaf_index) filter (where e.verdict = 'refused') as refused,
       h.size, h.root,
       (select note from audit_checkpoint c where c.size = h.size) as note,
       array(select line from audit_cosignature c where c.size = h.size order by time_s) as lines,
       w.size as cosigned_size, w.note as cosigned_note,
       array(select line from audit_cosignature c where c.size = w.size order by time_s)
           as cosigned_lines
from audit_head h
left join audit_event e on e.run = $1
left join audit_checkpoint w on w.size = (select max(size) from audit_cosignature)
group by h.size, h.root, w.size, w.note
"""
_EVENTS = f"""
select {COLUMNS} from audit_event
where run = $1 and leaf_index > $2 order by leaf_index limit $3
"""  # noqa: S608 # nosec B608
_REFUSALS = f"""
select {COLUMNS} from audit_event
where verdict = 'refused' and ($1::text is null or run = $1) and leaf_index > $2
order by leaf_index limit $3
"""  # noqa: S608 # nosec B608
_STRETCH = f"""
select {COLUMNS} from audit_event
where stream_sequence > $1 and stream_sequence <= $2 order by stream_sequence limit $3
"""  # noqa: S608 # nosec B608
_OWED = f"""
select {COLUMNS} from audit_event e
where stream_sequence > $1 and stream_sequence <= $2
      and ($3::bigint[] is null or stream_sequence = any($3))
      and not exists (select from audit_trim t
                      where t.run = e.run and t.stream_sequence >= e.stream_sequence)
order by stream_sequence limit $4
"""  # noqa: S608 # nosec B608
_BY_IDS = f"""
select {COLUMNS} from audit_event where event_id = any($1::text[]) order by leaf_index
"""  # noqa: S608 # nosec B608
_KNOWN_IDS = "select event_id from audit_event where event_id = any($1::text[])"
_CHECKPOINT = """
select size, root, note, signed_at,
       array(select line from audit_cosignature s where s.size = c.size order by time_s)
           as cosignatures
from audit_checkpoint c
where ($1::bigint is null or size = $1)
      and (not $2::boolean or exists (select from audit_cosignature s where s.size = c.size))
order by size desc limit 1
"""
_NODES = """
select n.level, n.index, n.hash
from audit_node n join unnest($1::smallint[], $2::bigint[]) as wanted (level, index)
using (level, index)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSummary:
    """One run in the audit log, and the checkpoint that covers it.

    Attributes:
        run: the run asked for.
        events: how many events of the run are recorded; accepted and refused of them.
        tree_size: leaves of the whole log.
        root: hex root hash at that size.
        checkpoint: signed note for that size, with the cosignatures that it has; None while the
            log is empty.
        cosigned: the newest checkpoint that a witness has cosigned, None if there is none.
    """

    run: str
    events: int
    accepted: int
    refused: int
    tree_size: int
    root: str
    checkpoint: str | None
    cosigned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the audit log reaches.

    Attributes:
        size: number of leaves.
        root: root hash that the log records for that size.
        stream_sequence: the last one that is recorded, 0 before the first. Where it is more
            than the size, the stream had gaps when it was read.
    """

    size: int
    root: bytes
    stream_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A checkpoint as recorded: what the note says, the note, when it was signed.

    Attributes:
        cosignatures: signature lines of witnesses, which the note is without.
    """

    size: int
    root: bytes
    note: str
    signed_at: datetime
    cosignatures: Sequence[str] = ()

    @property
    def handed_out(self) -> str:
        """The note with the cosignatures under the log's own signature."""
        return self.note + "".join(f"{line}\n" for line in self.cosignatures)


def with_lines(note: str | None, lines: Sequence[str]) -> str | None:
    """A checkpoint's note with signature lines of witnesses under it."""
    return None if note is None else note + "".join(f"{line}\n" for line in lines)


class AuditReader:
    """Reads the audit log; any number of readers may work beside the one writer.

    Every method may raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each query, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def summary(self, run: str) -> AuditSummary:
        """Counts of one run and the log's state, read at one moment."""
        with translated("read the audit summary"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_SUMMARY, run)
        if row is None:
            raise AuditCorrupt("The audit log has lost its head row.")
        return AuditSummary(
            run=run,
            events=row["events"],
            accepted=row["accepted"],
            refused=row["refused"],
            tree_size=row["size"],
            root=row["root"].hex(),
            checkpoint=with_lines(row["note"], row["lines"]),
            cosigned=with_lines(row["cosigned_note"], row["cosigned_lines"]),
        )

    def events(self, run: str, *, after: int = -1) -> AsyncIterator[AuditEvent]:
        """Events of a run in log order, accepted and refused, from leaf `after` + 1 on.

        Read in pages: events recorded meanwhile are included at the end.
        """
        return self._pages(_EVENTS, run, after)

    def refusals(self, run: str | None = None, *, after: int = -1) -> AsyncIterator[AuditEvent]:
        """Refused events in log order, of one run or of all, from leaf `after` + 1 on."""
        return self._pages(_REFUSALS, run, after)

    async def exists(self) -> bool:
        """Whether the database has an audit log."""
        with translated("look for the audit log"):
            async with asyncio.timeout(self._deadline_s):
                found: bool = await self._pool.fetchval(
                    "select to_regclass('audit_trim') is not null"
                )
        return found

    async def reach(self) -> Reach:
        """How far the log has come; nothing is checked."""
        with translated("read how far the audit log reaches"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(
                    "select size, root, stream_sequence from audit_head"
                )
        if row is None:
            raise AuditCorrupt("The audit log has lost its head row.")
        return Reach(**dict(row))

    async def stretch(
        self, *, after: int, until: int, limit: int = PAGE_EVENTS
    ) -> list[AuditEvent]:
        """What is recorded of the stream sequences after + 1 to until, in order.

        Args:
            after: stream sequence before the first.
            until: the last stream sequence.
            limit: most events to return; ask again after the last of them.
        """
        with translated("read a stretch of the audit log"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_STRETCH, after, until, limit)
        return [AuditEvent.from_row(row) for row in rows]

    async def owed(
        self,
        *,
        after: int,
        until: int,
        among: Sequence[int] | None = None,
        limit: int = PAGE_EVENTS,
    ) -> list[AuditEvent]:
        """Like `stretch`, without what was taken out of the stream on purpose.

        Args:
            after: stream sequence before the first.
            until: the last stream sequence.
            among: only these sequences; None for all.
            limit: most events to return; ask again after the last of them.
        """
        wanted = None if among is None else list(among)
        with translated("read what the stream must hold"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_OWED, after, until, wanted, limit)
        return [AuditEvent.from_row(row) for row in rows]

    async def with_ids(self, event_ids: Sequence[str]) -> list[AuditEvent]:
        """Every recorded event that has one of these ids, in log order."""
        with translated("look events up in the audit log"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_BY_IDS, list(map(in_column, event_ids)))
        return [AuditEvent.from_row(row) for row in rows]

    async def unknown(self, event_ids: Sequence[str]) -> list[str]:
        """Those of these ids that no accepted event in the log has, in the order given."""
        wanted = {event_id: in_column(event_id) for event_id in event_ids}
        with translated("look ids up in the audit log"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_KNOWN_IDS, list(wanted.values()))
        known = {row["event_id"] for row in rows}
        return [event_id for event_id, column in wanted.items() if column not in known]

    async def chain_heads(self) -> dict[str, ChainHead]:
        """The last accepted event of each sender's chain, by its public key."""
        with translated("read the senders' chains"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch("select * from audit_chain")
        return {
            row["sender_key"]: ChainHead(sequence=row["sequence"], digest=row["digest"].hex())
            for row in rows
        }

    async def checkpoint(
        self, size: int | None = None, *, cosigned: bool = False
    ) -> StoredCheckpoint | None:
        """The latest checkpoint, or the one signed at that tree size; None if there is none.

        Args:
            size: number of leaves; None for the latest.
            cosigned: leave out those that no witness has cosigned.
        """
        with translated("read a checkpoint"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_CHECKPOINT, size, cosigned)
        return None if row is None else StoredCheckpoint(**dict(row))

    async def inclusion(self, leaf_index: int, size: int) -> tuple[bytes, ...]:
        """Proof that a leaf is in the tree of that size.

        Raises:
            ValueError: the tree of that size has no such leaf.
            AuditCorrupt: the log is not that large, or nodes are missing.
        """
        return await self._prove(lambda get_node: inclusion_proof(leaf_index, size, get_node))

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Proof that the tree of size old is a prefix of the one of size new.

        Raises:
            ValueError: old is negative or larger than new.
            AuditCorrupt: the log is not that large, or nodes are missing.
        """
        return await self._prove(lambda get_node: consistency_proof(old, new, get_node))

    async def _prove(self, proof: Callable[[GetNode], list[bytes]]) -> tuple[bytes, ...]:
        """Runs a proof once to learn which nodes it reads, and once with them."""
        wanted: list[tuple[int, int]] = []

        def note_down(level: int, index: int) -> bytes:
            wanted.append((level, index))
            return b""

        proof(note_down)
        nodes = await self._nodes(wanted)
        return tuple(proof(lambda level, index: nodes[level, index]))

    async def _nodes(self, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        with translated("read Merkle nodes"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    _NODES, [level for level, _ in wanted], [index for _, index in wanted]
                )
        found = {(row["level"], row["index"]): row["hash"] for row in rows}
        for level, index in wanted:
            if (level, index) not in found:
                message = f"The audit log has no Merkle node {index} at level {level}."
                raise AuditCorrupt(message)
        return found

    async def _pages(self, query: str, run: str | None, after: int) -> AsyncIterator[AuditEvent]:
        while True:
            with translated("read audit events"):
                async with asyncio.timeout(self._deadline_s):
                    rows = await self._pool.fetch(query, run, after, PAGE_EVENTS)
            for row in rows:
                yield AuditEvent.from_row(row)
            if len(rows) < PAGE_EVENTS:
                return
            after = rows[-1]["leaf_index"]
