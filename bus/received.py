"""What comes out of the log: a stored event, or a message that must not be acted on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.aio.msg import Msg

from bus.errors import MalformedEvent, SubjectMismatch, UntrustedEvent
from bus.event import Event, StoredEvent
from bus.receipt import RECEIPT_HEADER
from bus.subjects import SYSTEM_RUN, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEvent:
    """A message in the log that must not be acted on, kept as received, and why."""

    subject: str
    headers: Mapping[str, str]
    data: bytes
    stream_sequence: int
    stored_at: datetime
    error: MalformedEvent | UntrustedEvent

    @property
    def run(self) -> str:
        """The run whose subject it was found on; the system's own where that says none."""
        try:
            return parse(self.subject).run
        except SubjectMismatch:
            return SYSTEM_RUN


Received = StoredEvent | RefusedEvent


def delivered(message: Msg) -> Received:
    """Parse a message that a consumer delivered; not yet verified."""
    metadata = message.metadata
    return parsed(
        message.subject,
        message.headers,
        message.data,
        metadata.sequence.stream,
        metadata.timestamp,
    )


def fetched(message: Msg) -> Received:
    """Parse a message that a direct get returned; not yet verified."""
    headers = message.headers or {}
    return parsed(
        headers["Nats-Subject"],
        headers,
        message.data,
        int(headers["Nats-Sequence"]),
        datetime.fromisoformat(_microseconds(headers["Nats-Time-Stamp"])),
    )


def parsed(
    subject: str,
    headers: Mapping[str, str] | None,
    data: bytes,
    stream_sequence: int,
    stored_at: datetime,
) -> Received:
    """Parse what stands, or stood, in the log; not yet verified."""
    stored_at = stored_at.astimezone(UTC)
    try:
        event = Event.parse(subject, headers, data)
    except MalformedEvent as error:
        return RefusedEvent(
            subject=subject,
            headers=dict(headers or {}),
            data=data,
            stream_sequence=stream_sequence,
            stored_at=stored_at,
            error=error,
        )
    return StoredEvent(
        event=event,
        stream_sequence=stream_sequence,
        stored_at=stored_at,
        receipt=(headers or {}).get(RECEIPT_HEADER),
    )


def refused_event(
    event: Event, stream_sequence: int, stored_at: datetime, error: MalformedEvent | UntrustedEvent
) -> RefusedEvent:
    """An event that parsed but failed verification."""
    return RefusedEvent(
        subject=event.subject,
        headers=event.headers,
        data=event.data,
        stream_sequence=stream_sequence,
        stored_at=stored_at,
        error=error,
    )


def _microseconds(timestamp: str) -> str:
    """RFC 3339 with nanoseconds, cut to what datetime reads."""
    seconds, _, fraction = timestamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction[:6]:0<6}+00:00"
