"""What the stream has lost: the audit log's copy compared with what the stream still shows.

Pure. An event of the stream and its copy are the same if subject, headers and data are, byte
for byte; the headers that the broker reads (``Nats-``) are no part of an event.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import LogLost, MissingEvent
from bus.received import Received
from bus.subjects import SYSTEM_RUN
from storage.leaf import AuditRecord, encode_envelope

NAMED: Final = 100
"""Missing events that an alarm names; it counts them all."""
_BROKERS: Final = "nats-"

How: TypeAlias = Literal["missing", "different"]
Content: TypeAlias = tuple[bytes, bytes]
"""Subject and headers as an envelope, and the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An event of the audit log that the stream does not show where it was."""

    how: How
    stream_sequence: int
    sender: str
    """Its ce-source; empty where that cannot be read."""
    sequence: int
    """In the sender's chain; 0 where that cannot be read."""

    def __str__(self) -> str:
        sender = self.sender or "an unknown sender"
        return f"{self.stream_sequence}: {sender} no. {self.sequence} ({self.how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A stretch of the stream compared with the audit log.

    Attributes:
        lost: recorded events that are missing or different, in order.
        unrecorded: what the stream shows and the audit log does not have there, in order; an
            event that stands where another was recorded is among them.
    """

    lost: tuple[Difference, ...] = ()
    unrecorded: tuple[Received, ...] = ()


def compare(recorded: Sequence[AuditRecord], found: Sequence[Received]) -> Comparison:
    """Compare what the audit log has of a stretch with what the stream has of it."""
    shown = {received.stream_sequence: received for received in found}
    lost: list[Difference] = []
    for record in recorded:
        received = shown.get(record.stream_sequence)
        if received is None:
            lost.append(difference(record, "missing"))
        elif same(record, received):
            del shown[record.stream_sequence]
        else:
            lost.append(difference(record, "different"))
    return Comparison(lost=tuple(lost), unrecorded=tuple(shown.values()))


def difference(record: AuditRecord, how: How) -> Difference:
    """What is told of a recorded event that is lost."""
    named = record.source_role is not None and record.source_agent is not None
    return Difference(
        how=how,
        stream_sequence=record.stream_sequence,
        sender=f"swarm://{record.source_role}/{record.source_agent}" if named else "",
        sequence=max(0, record.sender_sequence or 0),
    )


def same(record: AuditRecord, received: Received) -> bool:
    """Whether a message of the stream is the recorded event."""
    return content_of(received) == recorded_content(record)


def content_of(received: Received) -> Content:
    """What a message of the stream says."""
    if isinstance(received, StoredEvent):
        event = received.event
        return content(event.subject, event.headers.items(), event.data)
    return content(received.subject, received.headers.items(), received.data)


def recorded_content(record: AuditRecord) -> Content:
    """What a recorded event says."""
    return content(record.subject, record.raw_headers, record.data)


def content(subject: str, headers: Iterable[tuple[str, str]], data: bytes) -> Content:
    """What a message of that subject, headers and data says."""
    ours = tuple((name, value) for name, value in headers if not _is_brokers(name))
    return encode_envelope(subject, ours), data


def _is_brokers(name: str) -> bool:
    return name.lower().startswith(_BROKERS)


@dataclass(slots=True)
class Loss:
    """All that is known to be lost of one stream; it is told anew whenever it has grown."""

    made: str
    """When the stream was made: a stream made anew begins without loss."""
    known: dict[int, Difference] = field(default_factory=dict)

    def add(self, differences: Iterable[Difference]) -> bool:
        """Take note; whether any of them was not known."""
        before = len(self.known)
        self.known.update({lost.stream_sequence: lost for lost in differences})
        return len(self.known) > before

    def first(self, most: int) -> list[Difference]:
        """The first of what is lost, by its place in the stream."""
        return [self.known[sequence] for sequence in sorted(self.known)[:most]]

    def draft(self) -> Draft:
        """The alarm: the same loss has the same id, whoever finds it."""
        sequences = sorted(self.known)
        digest = hashlib.sha256(" ".join(map(str, sequences)).encode()).hexdigest()
        payload = LogLost(
            count=len(sequences),
            first=sequences[0],
            last=sequences[-1],
            missing=tuple(_named(lost) for lost in self.first(NAMED)),
        )
        return Draft(run=SYSTEM_RUN, payload=payload, id=derive_id("log.lost", self.made, digest))


def unread(first: int, last: int) -> Draft:
    """The alarm for sequences that the auditor never saw: who sent them nobody can say."""
    sequences = range(first, last + 1)
    payload = LogLost(
        count=len(sequences),
        first=first,
        last=last,
        missing=tuple(
            MissingEvent(stream_sequence=sequence, sender="", sequence=0)
            for sequence in sequences[:NAMED]
        ),
    )
    event_id = derive_id("log.lost", "unread", str(first), str(last))
    return Draft(run=SYSTEM_RUN, payload=payload, id=event_id)


def _named(lost: Difference) -> MissingEvent:
    return MissingEvent(
        stream_sequence=lost.stream_sequence, sender=lost.sender[:128], sequence=lost.sequence
    )
