"""Audit rows: from records to what COPY takes, and back from stored rows.

Text of a hostile event may hold what Postgres cannot keep or index: NUL,
lone surrogates, numbers and dates out of range, an id of a megabyte. The query
columns get a cleaned, shortened copy, so that such an event is recorded like
any other; envelope and data keep every byte.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bus.subjects import TRUST_RUN
from storage.leaf import (
    AuditRecord,
    Leaf,
    decode_envelope,
    digest_of_reason,
    encode_envelope,
    join_leaf,
    leaf_of,
    microseconds,
    storable,
)
from storage.merkle import Frontier, Node, leaf_hash
from storage.usage_rows import usage_rows

if TYPE_CHECKING:
    import asyncpg

TEXT_LIMIT = 512
"""Characters of a query column; an index entry must stay under 2,704 bytes."""
_INT8 = range(-(2**63), 2**63)
_JSON = json.JSONEncoder(ensure_ascii=False)

EVENT_COLUMNS = (
    "leaf_index",
    "stream_sequence",
    "subject",
    "event_id",
    "type",
    "source_role",
    "source_agent",
    "run",
    "cause",
    "sender_key",
    "sender_sequence",
    "event_time",
    "stored_at",
    "headers",
    "envelope",
    "data",
    "digest",
    "verdict",
    "reason_code",
    "reason",
    "run_index",
    "trust_count",
    "leaf_hash",
)
NODE_COLUMNS = ("level", "index", "hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the audit log has come.

    Attributes:
        size: number of leaves.
        stream_sequence: last stream sequence recorded, 0 before the first.
        frontier: the right edge of the tree.
    """

    size: int
    stream_sequence: int
    frontier: Frontier


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """Rows and nodes of a batch, ready for COPY, and the position they lead to."""

    rows: Sequence[tuple[object, ...]]
    nodes: Sequence[Node]
    chains: Sequence[tuple[str, int, bytes]]
    """The last accepted event of each sender: public key, sequence, digest."""
    objects: Sequence[bytes]
    """What the events refer to."""
    usage: Sequence[tuple[object, ...]]
    """What the events say that was used up of the models."""
    counts: Mapping[str, int]
    """How many leaves the runs of the batch have after it."""
    after: Position
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """A recorded event: the record, its place in the tree, in its run, and its leaf hash."""

    leaf_index: int
    record: AuditRecord
    run_index: int
    trust_count: int
    leaf_hash: bytes

    @property
    def leaf(self) -> Leaf:
        """The leaf as its bytes make it, whatever hash was recorded."""
        return leaf_of(self.record, run_index=self.run_index, trust_count=self.trust_count)

    @classmethod
    def from_row(cls, row: "asyncpg.Record") -> "AuditEvent":
        """From a row of audit_event; subject and headers are those received."""
        subject, raw_headers = decode_envelope(row["envelope"])
        record = AuditRecord(
            stream_sequence=row["stream_sequence"],
            subject=subject,
            raw_headers=raw_headers,
            data=row["data"],
            verdict=row["verdict"],
            reason_code=row["reason_code"],
            reason=row["reason"],
            stored_at=row["stored_at"],
            digest=row["digest"],
            event_id=row["event_id"],
            type=row["type"],
            source_role=row["source_role"],
            source_agent=row["source_agent"],
            cause=row["cause"],
            sender_key=row["sender_key"],
            sender_sequence=row["sender_sequence"],
            event_time=row["event_time"],
        )
        return cls(
            leaf_index=row["leaf_index"],
            record=record,
            run_index=row["run_index"],
            trust_count=row["trust_count"],
            leaf_hash=row["leaf_hash"],
        )


def prepare(
    position: Position, counts: Mapping[str, int], records: Sequence[AuditRecord]
) -> PreparedBatch:
    """Everything that storing the records needs, worked out without I/O.

    Args:
        position: where the log stands.
        counts: how many leaves the run of trust and the runs of the records have; none if absent.
        records: at least one, in strictly rising stream order, all after position.
    """
    counted = Counter(counts)
    rows = []
    for at, record in enumerate(records, start=position.size):
        run = record.run
        rows.append(_row(at, record, run, counted[run], counted[TRUST_RUN]))
        counted[run] += 1
    frontier, nodes = position.frontier.append(row[-1] for row in rows)
    after = Position(
        size=frontier.size, stream_sequence=records[-1].stream_sequence, frontier=frontier
    )
    return PreparedBatch(
        rows=rows,
        nodes=nodes,
        chains=_chains(records),
        objects=[record.content for record in records if record.content is not None],
        usage=usage_rows(records, first_leaf=position.size),
        counts={run: events for run, events in counted.items() if events},
        after=after,
        root=frontier.root(),
    )


def node_rows(nodes: Iterable[Node]) -> list[tuple[int, int, bytes]]:
    """Nodes as COPY takes them."""
    return [(node.level, node.index, node.hash) for node in nodes]


def _chains(records: Iterable[AuditRecord]) -> list[tuple[str, int, bytes]]:
    heads: dict[str, tuple[str, int, bytes]] = {}
    for record in records:
        key, sequence, digest = record.sender_key, record.sender_sequence, record.digest
        if record.verdict == "refused" or key is None or sequence is None or digest is None:
            continue
        if key not in heads or heads[key][1] < sequence:
            heads[key] = (key, sequence, digest)
    return list(heads.values())


def _row(
    leaf_index: int, record: AuditRecord, run: str, run_index: int, trust_count: int
) -> tuple[Any, ...]:
    envelope = encode_envelope(record.subject, record.raw_headers)
    reason = storable(record.reason)
    leaf = join_leaf(
        record.stream_sequence,
        run,
        run_index,
        trust_count,
        microseconds(record.stored_at),
        (sha256(envelope).digest(), sha256(record.data).digest()),
        (record.verdict, record.reason_code),
        digest_of_reason(reason),
    )
    return (
        leaf_index,
        record.stream_sequence,
        storable(record.subject),
        _if_any(record.event_id),
        _if_any(record.type),
        _if_any(record.source_role),
        _if_any(record.source_agent),
        run,
        _if_any(record.cause),
        _if_any(record.sender_key),
        _number(record.sender_sequence),
        _moment(record.event_time),
        record.stored_at,
        _headers_json(dict(record.raw_headers)),
        envelope,
        record.data,
        record.digest,
        record.verdict,
        record.reason_code,
        reason,
        run_index,
        trust_count,
        leaf_hash(leaf),
    )


def _headers_json(headers: Mapping[str, str]) -> str:
    text = _JSON.encode(headers)
    if "\\u0000" not in text and text.isprintable():
        return text
    return _JSON.encode({storable(name): storable(value) for name, value in headers.items()})


def in_column(text: str) -> str:
    """What a query column has of a text."""
    return storable(text[:TEXT_LIMIT])


def _if_any(text: str | None) -> str | None:
    return None if text is None else in_column(text)


def _number(value: int | None) -> int | None:
    return value if value is not None and value in _INT8 else None


def _moment(value: datetime | None) -> datetime | None:
    """The time in UTC; None where it has no zone or leaves the calendar on the way."""
    if value is None or value.tzinfo is None:
        return None
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return None
