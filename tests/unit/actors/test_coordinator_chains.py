"""Which events raise an alarm at a reader that began somewhere in the log."""

from datetime import UTC, datetime

import pytest

from actors.chains import ChainAlarms, ReceivedChains
from bus.event import Event, StoredEvent
from bus.payloads import ChainBroken
from bus.subjects import SYSTEM_RUN
from tests.sending import appended, new_sender, submitted

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def chain(count: int) -> list[Event]:
    sender = new_sender()
    return [appended(sender, "r1", f"job {n}") for n in range(count)]


def stored(event: Event, stream_sequence: int) -> StoredEvent:
    return StoredEvent(event=event, stream_sequence=stream_sequence, stored_at=NOW)


def test_a_whole_chain_raises_nothing() -> None:
    chains = ReceivedChains()
    assert [chains.follow(e, live=n > 2) for n, e in enumerate(chain(6))] == [None] * 6


def test_what_was_trimmed_before_the_reader_began_raises_nothing() -> None:
    chains, events = ReceivedChains(), chain(12)
    for place in (3, 4, 7):
        assert chains.follow(events[place], live=False) is None
    assert chains.follow(events[9], live=True) is None, "the rest of it was trimmed as well"
    assert chains.follow(events[10], live=True) is None


def test_a_gap_before_our_eyes_is_told_with_the_number_that_is_missing() -> None:
    chains, events = ReceivedChains(), chain(6)
    chains.follow(events[0], live=True)
    assert chains.follow(events[2], live=True) == 2
    assert chains.follow(events[3], live=True) is None, "once"


def test_the_first_event_of_a_chain_that_began_before_our_eyes_is_missed() -> None:
    chains, events = ReceivedChains(), chain(3)
    chains.begin(events[0].key)
    assert chains.follow(events[1], live=True) == 1


@pytest.mark.parametrize("live", [True, False])
def test_a_repeat_and_a_step_back_are_told_wherever_they_stand(*, live: bool) -> None:
    chains, events = ReceivedChains(), chain(4)
    for event in events[:3]:
        chains.follow(event, live=live)
    assert chains.follow(events[2], live=live) == 4
    assert chains.follow(events[0], live=live) == 4
    assert chains.follow(events[3], live=live) is None


def test_a_fork_is_told() -> None:
    chains, sender = ReceivedChains(), new_sender()
    first = appended(sender, "r1", "a")
    chains.follow(first, live=False)
    head, _ = sender.head, appended(sender, "r1", "b")
    sender.head = head
    other = sender.sign(submitted("r1", "c"))
    chains.follow(other, live=False)
    sender.head = head
    assert chains.follow(sender.sign(submitted("r1", "d")), live=False) == 3


def test_an_alarm_names_sender_and_sequence_and_waits_until_it_is_done() -> None:
    alarms, events = ChainAlarms(), chain(4)
    assert alarms.take(stored(events[0], 7), live=True) is None
    broken = alarms.take(stored(events[3], 8), live=True)
    assert broken is not None
    assert (broken.sender, broken.expected_sequence, broken.found_sequence) == (
        "swarm://gateway/gateway-1",
        2,
        4,
    )
    draft = alarms.first()
    assert draft is not None
    assert (draft.payload, draft.run) == (broken, SYSTEM_RUN)
    assert alarms.first() == draft
    alarms.done(draft)
    assert alarms.first() is None
    assert not alarms


def test_an_alarm_that_is_in_the_log_is_not_raised_again() -> None:
    alarms, events = ChainAlarms(), chain(3)
    alarms.take(stored(events[0], 1), live=False)
    alarms.take(stored(events[0], 2), live=False)
    draft = alarms.first()
    assert draft is not None
    assert isinstance(draft.payload, ChainBroken)
    said = new_sender("auditor", "auditor-1").sign(draft)
    alarms.take(stored(said, 3), live=False)
    assert alarms.first() is None
