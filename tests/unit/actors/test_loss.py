"""What counts as lost: the audit log's copy against what the stream shows."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from actors.auditor import record_of
from actors.loss import NAMED, Loss, compare, difference, unread
from bus.errors import MalformedEvent
from bus.event import StoredEvent
from bus.payloads import LogLost
from bus.received import Received, RefusedEvent
from storage.leaf import AuditRecord
from tests.sending import appended, new_sender

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def events(count: int) -> list[StoredEvent]:
    sender = new_sender()
    return [
        StoredEvent(event=appended(sender, f"r{n}"), stream_sequence=n, stored_at=NOON)
        for n in range(1, count + 1)
    ]


EVENTS = events(12)
RECORDS = [record_of(event) for event in EVENTS]


def refused(sequence: int, headers: dict[str, str]) -> RefusedEvent:
    return RefusedEvent(
        subject="evt.00.x.run.failed",
        headers=headers,
        data=b"?",
        stream_sequence=sequence,
        stored_at=NOON,
        error=MalformedEvent("no event"),
    )


@given(
    missing=st.sets(st.integers(1, 12)),
    changed=st.sets(st.integers(1, 12)),
    extra=st.integers(0, 3),
)
def test_exactly_what_is_missing_or_different_is_lost(
    missing: set[int], changed: set[int], extra: int
) -> None:
    found: list[Received] = []
    for event in EVENTS:
        if event.stream_sequence in changed - missing:
            other = EVENTS[event.stream_sequence % 12].event
            found.append(replace(event, event=other))
        elif event.stream_sequence not in missing:
            found.append(event)
    behind = [replace(EVENTS[0], stream_sequence=13 + n) for n in range(extra)]
    result = compare(RECORDS, [*found, *behind])
    assert {lost.stream_sequence for lost in result.lost if lost.how == "missing"} == missing
    different = {lost.stream_sequence for lost in result.lost if lost.how == "different"}
    assert different == changed - missing
    unrecorded = {received.stream_sequence for received in result.unrecorded}
    assert unrecorded == different | {event.stream_sequence for event in behind}
    for lost in result.lost:
        assert (lost.sender, lost.sequence) == ("swarm://gateway/gateway-1", lost.stream_sequence)


def test_a_changed_byte_is_another_event() -> None:
    event = EVENTS[0].event
    for other in (
        replace(event, data=event.data + b" "),
        replace(event, subject=event.subject + "x"),
        replace(event, headers={**event.headers, "ce-run": "other"}),
    ):
        assert compare(RECORDS[:1], [replace(EVENTS[0], event=other)]).lost


def test_what_the_broker_reads_is_no_part_of_an_event() -> None:
    recorded = record_of(refused(1, {"x": "1", "Nats-Msg-Id": "a"}))
    assert not compare([recorded], [refused(1, {"x": "1"})]).lost
    assert compare([recorded], [refused(1, {"x": "2", "Nats-Msg-Id": "a"})]).lost


def test_an_event_without_a_readable_sender_is_told_all_the_same() -> None:
    lost = difference(record_of(refused(7, {})), "missing")
    assert (lost.sender, lost.sequence) == ("", 0)
    assert str(lost) == "7: an unknown sender no. 0 (missing)"


def lost(record: AuditRecord) -> Loss:
    loss = Loss(made="then")
    loss.add([difference(record, "missing")])
    return loss


def test_the_same_loss_has_the_same_id_and_a_greater_one_another() -> None:
    assert lost(RECORDS[0]).draft().id == lost(RECORDS[0]).draft().id
    assert lost(RECORDS[0]).draft().id != lost(RECORDS[1]).draft().id
    greater = lost(RECORDS[0])
    assert greater.add([difference(RECORDS[1], "missing")])
    assert not greater.add([difference(RECORDS[0], "missing")])
    assert greater.draft().id != lost(RECORDS[0]).draft().id


def test_a_stream_made_anew_loses_anew() -> None:
    again = replace(lost(RECORDS[0]), made="now")
    assert again.draft().id != lost(RECORDS[0]).draft().id


def test_an_alarm_counts_all_and_names_the_first() -> None:
    loss = Loss(made="then")
    records = [replace(RECORDS[0], stream_sequence=n) for n in range(1, NAMED + 51)]
    loss.add(difference(record, "missing") for record in reversed(records))
    payload = loss.draft().payload
    assert isinstance(payload, LogLost)
    assert (payload.count, payload.first, payload.last) == (NAMED + 50, 1, NAMED + 50)
    assert [each.stream_sequence for each in payload.missing] == list(range(1, NAMED + 1))


def test_what_nobody_saw_is_told_without_a_sender() -> None:
    payload = unread(5, 5 + 2 * NAMED).payload
    assert isinstance(payload, LogLost)
    assert (payload.count, payload.first, payload.last) == (2 * NAMED + 1, 5, 5 + 2 * NAMED)
    assert {each.sender for each in payload.missing} == {""}
