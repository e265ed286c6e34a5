"""What shows a run to an outsider: its leaves whole, the rest of the log as bare leaves, proofs."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bus.subjects import SYSTEM_RUN, TRUST_RUN, subject_for
from storage.audit_reader import COLUMNS, AuditReader, StoredCheckpoint
from storage.audit_rows import AuditEvent
from storage.leaf import Leaf, microseconds
from storage.merkle import GetNode, edge_nodes, inclusion_proof
from storage.objects import AuditObjects
from storage.postgres import Pool, translated

IDENTITY_TYPE = "swarm.identity.issued.v1"
"""As the index of announcements in the schema has it."""
_OF_RUN = f"""
select {COLUMNS} from audit_event where run = $1 and leaf_index < $2 order by leaf_index
"""  # noqa: S608 # nosec B608
_ANNOUNCED = f"""
select {COLUMNS} from audit_event
where type = '{IDENTITY_TYPE}' and verdict = 'accepted'
      and subject = any($1::text[]) and leaf_index < $2
order by leaf_index
"""  # noqa: S608 # nosec B608
_TAIL = """
select stream_sequence, run, run_index, trust_count, stored_at, verdict, reason_code,
       sha256(envelope) as envelope_digest, sha256(data) as data_digest,
       case when reason = '' then ''::bytea
            else sha256(convert_to(reason, 'UTF8')) end as reason_digest
from audit_event where leaf_index > $1 and leaf_index < $2 order by leaf_index
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLeaf:
    """A recorded event, the object it refers to, and the proof that it is in the tree."""

    event: AuditEvent
    content: bytes | None
    proof: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """An earlier checkpoint, and the proof that the tree begins with it."""

    checkpoint: StoredCheckpoint
    proof: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the log has to show of a run up to a checkpoint.

    Attributes:
        run: whose it is.
        checkpoint: what the proofs lead to.
        leaves: in order: all of the run, all of trust, and where the keys were announced.
        edge: hashes of the complete subtrees up to the run's last leaf, largest first.
        tail: the leaves behind it.
        growth: since an earlier checkpoint, where that was asked for.
    """

    run: str
    checkpoint: StoredCheckpoint
    leaves: Sequence[ShownLeaf]
    edge: Sequence[bytes]
    tail: Sequence[Leaf]
    growth: Growth | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TailTooLong:
    """Too much was recorded after the run's last event to be shown in one piece."""

    leaves: int
    last_leaf: int


class EvidenceReader(AuditReader):
    """Reads the audit log for those who do not trust it.

    Args:
        pool: the database, migrated.
        deadline_s: for each query, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        super().__init__(pool, deadline_s=deadline_s)
        self._objects = AuditObjects(pool, deadline_s=deadline_s)

    async def evidence(
        self, run: str, checkpoint: StoredCheckpoint, *, most_tail: int
    ) -> Evidence | TailTooLong | None:
        """What there is to show of a run; None where the tree has no leaf of it.

        Args:
            run: of a user.
            checkpoint: of this log; leaves beyond it are left out.
            most_tail: leaves that may follow the run's last one.

        Raises:
            AuditCorrupt: nodes or an object are missing.
        """
        size = checkpoint.size
        mine = await self._rows(_OF_RUN, run, size)
        if not mine:
            return None
        last = mine[-1].leaf_index
        if size - last - 1 > most_tail:
            return TailTooLong(leaves=size - last - 1, last_leaf=last)
        shown = [*mine, *await self._rows(_OF_RUN, TRUST_RUN, size)]
        shown += await self._announcements(shown, size)
        shown.sort(key=lambda event: event.leaf_index)
        places = [event.leaf_index for event in shown]
        proofs, edge = await self._proofs(places, size, last + 1)
        contents = [
            await self._objects.content_of(event) if event.record.verdict == "accepted" else None
            for event in shown
        ]
        return Evidence(
            run=run,
            checkpoint=checkpoint,
            leaves=[
                ShownLeaf(event=event, content=content, proof=proof)
                for event, content, proof in zip(shown, contents, proofs, strict=True)
            ],
            edge=edge,
            tail=await self._tail(last, size),
            growth=None,
        )

    async def _announcements(self, shown: Sequence[AuditEvent], size: int) -> list[AuditEvent]:
        """Where the keys of the senders were made known, and those of who made them known."""
        found: dict[int, AuditEvent] = {}
        asked: set[str] = set()
        wanted = _keys(shown)
        while wanted:
            asked |= wanted
            subjects = [subject_for(SYSTEM_RUN, IDENTITY_TYPE, key) for key in sorted(wanted)]
            rows = await self._rows(_ANNOUNCED, subjects, size)
            found |= {event.leaf_index: event for event in rows}
            wanted = _keys(rows) - asked
        return list(found.values())

    async def _rows(self, query: str, of: object, size: int) -> list[AuditEvent]:
        with translated("read evidence"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(query, of, size)
        return [AuditEvent.from_row(row) for row in rows]

    async def _tail(self, last: int, size: int) -> list[Leaf]:
        with translated("read the rest of the audit log"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_TAIL, last, size)
        return [
            Leaf(
                stream_sequence=row["stream_sequence"],
                run=row["run"],
                run_index=row["run_index"],
                trust_count=row["trust_count"],
                stored_us=microseconds(row["stored_at"]),
                envelope_digest=row["envelope_digest"],
                data_digest=row["data_digest"],
                verdict=row["verdict"],
                reason_code=row["reason_code"],
                reason_digest=row["reason_digest"],
            )
            for row in rows
        ]

    async def _proofs(
        self, places: Sequence[int], size: int, edge_size: int
    ) -> tuple[list[list[bytes]], list[bytes]]:
        """Inclusion proofs of many leaves and the edge of a smaller tree, from one query."""
        wanted = edge_nodes(edge_size)

        def note_down(level: int, index: int) -> bytes:
            wanted.append((level, index))
            return b""

        def all_proofs(get_node: GetNode) -> list[list[bytes]]:
            return [inclusion_proof(place, size, get_node) for place in places]

        all_proofs(note_down)
        nodes = await self._nodes(sorted(set(wanted)))
        proofs = all_proofs(lambda level, index: nodes[level, index])
        return proofs, [nodes[at] for at in edge_nodes(edge_size)]


def _keys(events: Iterable[AuditEvent]) -> set[str]:
    return {
        event.record.sender_key
        for event in events
        if event.record.verdict == "accepted" and event.record.sender_key is not None
    }
