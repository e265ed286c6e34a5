"""Sender chains: every loss, repeat, reordering and fork shows; nothing intact alarms."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import SequenceError
from bus.event import FIRST_PREVIOUS, Event
from bus.signing import ChainHead
from bus.trust import ChainTracker
from tests.sending import appended, new_sender, submitted

SENDERS = 4
LENGTH = 6


def chain(number: int) -> list[Event]:
    sender = new_sender(name=f"gateway-{number}")
    return [appended(sender, "r1", f"job {n}") for n in range(LENGTH)]


CHAINS = [chain(number) for number in range(SENDERS)]


def alarms(events: list[Event], tracker: ChainTracker | None = None) -> list[int]:
    """Positions at which the tracker objects."""
    tracker = tracker or ChainTracker()
    found = []
    for position, event in enumerate(events):
        try:
            tracker.follow(event)
        except SequenceError:
            found.append(position)
    return found


@st.composite
def interleavings(draw: st.DrawFn) -> list[Event]:
    turns = draw(st.permutations([n for n in range(SENDERS) for _ in range(LENGTH)]))
    iterators: list[Iterator[Event]] = [iter(events) for events in CHAINS]
    return [next(iterators[turn]) for turn in turns]


def test_a_chain_is_numbered_from_one_and_linked_by_digests() -> None:
    events = CHAINS[0]
    assert [event.sequence for event in events] == list(range(1, LENGTH + 1))
    assert events[0].previous == FIRST_PREVIOUS
    links = [event.digest.hex() for event in events[:-1]]
    assert [event.previous for event in events[1:]] == links


@given(interleavings())
def test_an_intact_interleaving_never_alarms(events: list[Event]) -> None:
    assert alarms(events) == []


@given(interleavings(), st.integers(0, SENDERS * LENGTH))
def test_a_tracker_resumes_where_it_stood(events: list[Event], cut: int) -> None:
    first = ChainTracker()
    assert alarms(events[:cut], first) == []
    assert alarms(events[cut:], ChainTracker.resume(first.heads)) == []


@given(interleavings(), st.integers(0, SENDERS * LENGTH - 1))
def test_a_lost_event_alarms_at_the_next_one_of_its_sender(events: list[Event], lost: int) -> None:
    gone = events[lost]
    left = events[:lost] + events[lost + 1 :]
    following = [n for n, e in enumerate(left) if n >= lost and e.key == gone.key]
    assert alarms(left) == following[:1]


def test_a_cut_tail_shows_against_the_number_a_sender_gave_last() -> None:
    tracker = ChainTracker()
    assert alarms(CHAINS[0][:-1], tracker) == []
    assert tracker.expected(CHAINS[0][-1].key) == CHAINS[0][-1].sequence


@given(interleavings(), st.integers(0, SENDERS * LENGTH - 1), st.integers(1, SENDERS * LENGTH))
def test_a_repeated_event_alarms_once(events: list[Event], which: int, later: int) -> None:
    place = min(which + later, len(events))
    assert alarms([*events[:place], events[which], *events[place:]]) == [place]


@given(st.integers(0, LENGTH - 2))
def test_two_events_in_the_wrong_order_alarm(place: int) -> None:
    events = list(CHAINS[0])
    events[place], events[place + 1] = events[place + 1], events[place]
    assert place in alarms(events)


@given(st.integers(0, LENGTH - 1))
def test_a_fork_alarms_and_the_first_branch_goes_on(place: int) -> None:
    """The same number twice: the sender, or somebody with its key, told two stories."""
    sender = new_sender()
    trunk = [appended(sender, "r1", f"job {n}") for n in range(place)]
    other = sender.sign(submitted("r1", "another story"))
    branch = [appended(sender, "r1", f"job {n}") for n in range(place, LENGTH)]
    events = [*trunk, branch[0], other, *branch[1:]]
    assert alarms(events) == [place + 1]


@given(st.integers(1, LENGTH - 1))
def test_an_event_that_follows_another_history_alarms(place: int) -> None:
    """The number fits, the digest of the previous event does not."""
    sender = new_sender()
    events = [appended(sender, "r1", f"job {n}") for n in range(place)]
    head = sender.head
    sender.head = ChainHead(sequence=head.sequence, digest="0" * 63 + "1")
    events.append(appended(sender, "r1", "another history"))
    assert alarms(events) == [place]


def test_a_chain_that_does_not_start_at_one_alarms() -> None:
    assert alarms(CHAINS[0][2:]) == [0]


def test_signing_alone_does_not_move_the_chain() -> None:
    sender = new_sender()
    one, again = sender.sign(submitted("r1", "a")), sender.sign(submitted("r1", "b"))
    assert (one.sequence, again.sequence) == (1, 1)
    sender.advance(again)
    assert sender.sign(submitted("r1", "c")).previous == again.digest.hex()


def test_the_digest_covers_the_signature() -> None:
    """Else a stored signature could be swapped without breaking the chain."""
    event = CHAINS[0][0]
    other = Event(
        subject=event.subject,
        headers={**event.headers, "swarm-signature": CHAINS[1][0].headers["swarm-signature"]},
        data=event.data,
    )
    assert other.signed_bytes == event.signed_bytes
    assert other.digest != event.digest


def test_a_sequence_error_names_the_sender_and_the_gap() -> None:
    with pytest.raises(SequenceError, match=r"swarm://gateway/gateway-0: event 3 .* follow 0"):
        ChainTracker().follow(CHAINS[0][2])
