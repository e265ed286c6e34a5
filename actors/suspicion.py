"""What the log itself says against an event: it does not verify, or its sender denies it. Pure."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from urllib.parse import unquote

from actors.divergence import Divergence
from bus.errors import MalformedEvent
from bus.event import Event, StoredEvent
from bus.payloads import EventRefused
from bus.received import Received, RefusedEvent


def suspects(events: Sequence[Received]) -> Iterator[Divergence]:
    """The events of a run that are not what was stored when it was made.

    An event that does not verify is one, unless it is on record that it was refused: whoever
    refuses an event says so in the log, with the digest of its data. (The record of one that
    was stored just now may still be on its way.) So is an event that verifies, but that is
    not the one which its sender's next event cites. Only links within the run can be seen
    here; the auditor follows whole chains.
    """
    denied = dict(_denials(events))
    on_record = {
        (payload.stream_sequence, payload.digest)
        for received in events
        if isinstance(received, StoredEvent)
        and isinstance(payload := received.payload(), EventRefused)
    }
    for received in events:
        place = received.stream_sequence
        if isinstance(received, StoredEvent):
            if place in denied:
                yield _changed(received, denied[place])
        elif (place, sha256(received.data).hexdigest()) not in on_record:
            yield _unverified(received, denied.get(place))


def _changed(stored: StoredEvent, denial: str) -> Divergence:
    event = stored.event
    return Divergence(
        event=event.id,
        stream_sequence=stored.stream_sequence,
        type=event.type,
        code="changed",
        recorded=f"an event of {event.source} with the digest {event.digest.hex()}",
        remade=denial,
    )


def _unverified(refused: RefusedEvent, denial: str | None) -> Divergence:
    headers = refused.headers
    return Divergence(
        event=unquote(headers.get("ce-id", ""))[:64],
        stream_sequence=refused.stream_sequence,
        type=unquote(headers.get("ce-type", ""))[:128],
        code="unverified",
        recorded=f"an event that does not verify: {refused.error} ({refused.error.code})",
        remade=denial or "nothing: no record says that it was refused when it was stored",
    )


def _denials(events: Sequence[Received]) -> Iterator[tuple[int, str]]:
    """The place of each event whose sender's next event cites another, and what that says."""
    last: dict[str, tuple[int, Event]] = {}
    for received in events:
        event = _event_of(received)
        if event is None:
            continue
        place, previous = last.get(event.key, (0, None))
        if isinstance(received, StoredEvent) and _denies(event, previous):
            cited = f"{event.previous}, which the sender's next event, {event.id}, cites"
            yield place, f"one with the digest {cited}"
        last[event.key] = received.stream_sequence, event


def _denies(event: Event, previous: Event | None) -> bool:
    """Whether the sender's next event cites another than this one before it."""
    return (
        previous is not None
        and event.sequence == previous.sequence + 1
        and event.previous != previous.digest.hex()
    )


def _event_of(received: Received) -> Event | None:
    if isinstance(received, StoredEvent):
        return received.event
    try:
        return Event.parse(received.subject, received.headers, received.data)
    except MalformedEvent:
        return None
