"""The audit log checked against itself, from the first row to the last. Pure.

Rows are made anew from the bytes that they keep, by the code that wrote them; nodes, roots and
counts follow from the rows. What comes first in the log is named first.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from bus.errors import MalformedEvent
from bus.event import Event
from bus.subjects import TRUST_RUN
from storage.audit_rows import EVENT_COLUMNS, Position, PreparedBatch, prepare
from storage.checkpoint import parse_checkpoint
from storage.errors import BadCheckpoint
from storage.leaf import AuditRecord, decode_envelope
from storage.merkle import Frontier, Node
from storage.note import VerifierKey

Row = Mapping[str, Any]
"""A row as the database gave it."""
START: Final = Position(size=0, stream_sequence=0, frontier=Frontier())
_ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        stream_sequence: the first one that is affected; None where it is no row of events.
        what: a sentence.
    """

    stream_sequence: int | None
    what: str

    def __str__(self) -> str:
        return self.what


@dataclass(slots=True)
class Replay:
    """What the rows up to here make of the log."""

    position: Position = START
    runs: Counter[str] = field(default_factory=Counter)
    chains: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)
    """By leaf."""

    def take(self, rows: Sequence[Row]) -> tuple[PreparedBatch | None, Finding | None]:
        """Go on with the next rows.

        Returns:
            What the rows make that may be as they were written, and what is wrong with the first
            that may not.
        """
        found = self._first_out_of_place(rows)
        records: list[AuditRecord] = []
        for row in rows:
            if found and row["leaf_index"] >= self.position.size + len(records):
                break
            record = _record_of(row)
            if isinstance(record, Finding):
                return None, record
            records.append(record)
        if found and not records:
            return None, found
        counts = {run: self.runs[run] for run in {TRUST_RUN, *(r.run for r in records)}}
        batch = prepare(self.position, counts, records)
        for row, made in zip(rows, batch.rows, strict=False):
            changed = _first_changed(row, made)
            if changed:
                at = row["stream_sequence"]
                what = f"the row of stream sequence {at} was changed: its {changed} is another"
                return None, Finding(stream_sequence=at, what=what)
        self._move(batch, records)
        return batch, found

    def _first_out_of_place(self, rows: Sequence[Row]) -> Finding | None:
        before = self.position.stream_sequence
        for expected, row in enumerate(rows, start=self.position.size):
            at = row["stream_sequence"]
            if row["leaf_index"] != expected:
                gap = f"{before + 1}" if at == before + 2 else f"{before + 1} or later"
                what = f"the row of leaf {expected}, stream sequence {gap}, was deleted"
                return Finding(stream_sequence=before + 1, what=what)
            if at <= before:
                what = f"the row of stream sequence {at} stands behind that of {before}"
                return Finding(stream_sequence=at, what=what)
            before = at
        return None

    def _move(self, batch: PreparedBatch, records: Sequence[AuditRecord]) -> None:
        self.position = batch.after
        self.runs.update(record.run for record in records)
        self.sequences += (record.stream_sequence for record in records)
        for key, sequence, digest in batch.chains:
            if key not in self.chains or self.chains[key][0] < sequence:
                self.chains[key] = (sequence, digest)


def first_changed_node(
    made: Sequence[Node], stored: Mapping[tuple[int, int], bytes], sequences: Sequence[int]
) -> Finding | None:
    """The first subtree that is not stored as the rows make it.

    Args:
        made: in the order in which they were completed.
        stored: hashes by level and index.
        sequences: stream sequences by leaf.
    """
    for node in made:
        if stored.get((node.level, node.index)) == node.hash:
            continue
        last = sequences[((node.index + 1) << node.level) - 1]
        lost = "is missing" if (node.level, node.index) not in stored else "is another"
        what = f"the Merkle node {node.index} of level {node.level} {lost}"
        if node.level == 0:
            what = f"the row of stream sequence {last} was changed or inserted: {what}"
        return Finding(stream_sequence=last, what=what)
    return None


def check_head(head: Row, replay: Replay, root: bytes) -> Finding | None:
    """The head against what the rows lead to."""
    at = replay.position
    if head["size"] > at.size:
        next_one = at.stream_sequence + 1
        what = (
            f"the row of leaf {at.size}, stream sequence {next_one} or later, was deleted:"
            f" the head counts {head['size']} leaves"
        )
        return Finding(stream_sequence=next_one, what=what)
    if head["size"] < at.size:
        inserted = replay.sequences[head["size"]]
        what = (
            f"the row of stream sequence {inserted} was inserted, or the head set back:"
            f" it counts {head['size']} leaves"
        )
        return Finding(stream_sequence=inserted, what=what)
    if (head["root"], head["stream_sequence"]) != (root, at.stream_sequence):
        return Finding(stream_sequence=None, what="the head has another root or stream sequence")
    return None


def check_checkpoints(
    rows: Sequence[Row], roots: Mapping[int, bytes], replay: Replay, key: VerifierKey
) -> Finding | None:
    """Every signed checkpoint against the root of that size; the last leaf must have one.

    Args:
        rows: of checkpoints, by size.
        roots: that the rows of events make, by size.
        replay: over all of them.
        key: the log's.
    """
    size = replay.position.size
    for before, row in pairwise([{"size": 0}, *rows]):
        name = f"the checkpoint of {row['size']} leaves"
        try:
            signed = parse_checkpoint(row["note"]).verify(key)
        except BadCheckpoint as error:
            return Finding(stream_sequence=None, what=f"{name} was changed: {error}")
        if (signed.size, signed.root) != (row["size"], row["root"]):
            return Finding(stream_sequence=None, what=f"{name} was changed: its note has others")
        if roots.get(row["size"]) == row["root"]:
            continue
        if row["size"] > size:
            what = f"{name} was signed, and the log has {size}"
            return Finding(stream_sequence=None, what=what)
        first, last = replay.sequences[before["size"]], replay.sequences[row["size"] - 1]
        what = (
            f"a row of the stream sequences {first} to {last} was changed, and the tree made"
            f" anew: {name} has another root"
        )
        return Finding(stream_sequence=first, what=what)
    if size and (not rows or rows[-1]["size"] != size):
        what = f"the checkpoint of {size} leaves, the whole log, is missing"
        return Finding(stream_sequence=None, what=what)
    return None


def check_tables(
    runs: Mapping[str, int], chains: Mapping[str, tuple[int, bytes]], replay: Replay
) -> Finding | None:
    """The counts of runs and the heads of chains, which follow from the rows."""
    for name, stored, made in (
        ("count of the run", runs, replay.runs),
        ("chain of the key", chains, replay.chains),
    ):
        for of in sorted(stored.keys() | made.keys()):
            if stored.get(of) != made.get(of):
                return Finding(stream_sequence=None, what=f"the {name} {of} is another")
    return None


def _record_of(row: Row) -> AuditRecord | Finding:
    """What the auditor must have recorded, from what was received and what it decided."""
    at = row["stream_sequence"]
    try:
        subject, headers = decode_envelope(row["envelope"])
        received: dict[str, Any] = {
            "stream_sequence": at,
            "subject": subject,
            "raw_headers": headers,
            "data": row["data"],
            "verdict": row["verdict"],
            "reason_code": row["reason_code"],
            "reason": row["reason"],
            "stored_at": row["stored_at"],
        }
        if row["verdict"] == _ACCEPTED:
            received |= _read_out(Event.parse(subject, dict(headers), row["data"]))
        return AuditRecord(**received)
    except (ValueError, MalformedEvent) as error:
        what = f"the row of stream sequence {at} was changed: {error}"
        return Finding(stream_sequence=at, what=what)


def _read_out(event: Event) -> dict[str, Any]:
    return {
        "digest": event.digest,
        "event_id": event.id,
        "type": event.type,
        "source_role": event.role,
        "source_agent": event.agent,
        "cause": event.cause,
        "sender_key": event.key,
        "sender_sequence": event.sequence,
        "event_time": event.time,
    }


def _first_changed(row: Row, made: Sequence[object]) -> str | None:
    """The first column that is not what it was made from."""
    for column, value in zip(EVENT_COLUMNS, made, strict=True):
        same = row[column] == value
        if column == "headers":  # the database keeps what it says, not how it is written
            same = json.loads(row[column]) == json.loads(str(value))
        if not same:
            return column
    return None
