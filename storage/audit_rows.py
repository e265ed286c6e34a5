"""Audit rows: from records to what COPY takes, and back from stored rows.

Text of a hostile event may hold what Postgres cannot keep or index: NUL,
lone surrogates, numbers and dates out of range, an id of a megabyte. The query
columns get a cleaned, shortened copy, so that such an event is recorded like
any other; envelope and data keep every byte.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from storage.leaf import AuditRecord, decode_envelope, encode_envelope, join_leaf
from storage.merkle import Frontier, Node, leaf_hash

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
    after: Position
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """A recorded event: the record, its place in the tree and its leaf hash."""

    leaf_index: int
    record: AuditRecord
    leaf_hash: bytes

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
            run=row["run"],
            cause=row["cause"],
            sender_key=row["sender_key"],
            sender_sequence=row["sender_sequence"],
            event_time=row["event_time"],
        )
        return cls(leaf_index=row["leaf_index"], record=record, leaf_hash=row["leaf_hash"])


def prepare(position: Position, records: Sequence[AuditRecord]) -> PreparedBatch:
    """Everything that storing the records needs, worked out without I/O.

    Args:
        position: where the log stands.
        records: at least one, in strictly rising stream order, all after position.
    """
    rows = [_row(position.size + at, record) for at, record in enumerate(records)]
    frontier, nodes = position.frontier.append(row[-1] for row in rows)
    after = Position(
        size=frontier.size, stream_sequence=records[-1].stream_sequence, frontier=frontier
    )
    return PreparedBatch(
        rows=rows,
        nodes=nodes,
        chains=_chains(records),
        objects=[record.content for record in records if record.content is not None],
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


def _row(leaf_index: int, record: AuditRecord) -> tuple[Any, ...]:
    envelope = encode_envelope(record.subject, record.raw_headers)
    leaf = join_leaf(
        stream_sequence=record.stream_sequence,
        envelope=envelope,
        data=record.data,
        verdict=record.verdict,
        reason_code=record.reason_code,
    )
    return (
        leaf_index,
        record.stream_sequence,
        _clean(record.subject),
        _short(record.event_id),
        _short(record.type),
        _short(record.source_role),
        _short(record.source_agent),
        _short(record.run),
        _short(record.cause),
        _short(record.sender_key),
        _number(record.sender_sequence),
        _moment(record.event_time),
        record.stored_at,
        _headers_json(dict(record.raw_headers)),
        envelope,
        record.data,
        record.digest,
        record.verdict,
        record.reason_code,
        _clean(record.reason),
        leaf_hash(leaf),
    )


def _headers_json(headers: Mapping[str, str]) -> str:
    text = _JSON.encode(headers)
    if "\\u0000" not in text and text.isprintable():
        return text
    return _JSON.encode({_clean(name): _clean(value) for name, value in headers.items()})


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _short(text: str | None) -> str | None:
    return None if text is None else _clean(text[:TEXT_LIMIT])


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
