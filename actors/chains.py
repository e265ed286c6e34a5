"""The chains of all senders, as a reader sees them who began somewhere in the log. Pure.

What was stored before the reader began may have been trimmed: a gap there proves nothing,
and neither does the first one after it in the chain of a sender whose credential is as old.
Everything else that does not join is evidence of loss, of a repeat or of a fork. A reader
that starts anew forgets what it saw; the auditor does not.
"""

from bus.errors import SequenceError
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.payloads import ChainBroken, IdentityIssued
from bus.signing import ChainHead
from bus.subjects import SYSTEM_RUN
from bus.trust import ChainTracker


class ReceivedChains:
    """Follows every sender's chain; events must come in the order of the log."""

    def __init__(self) -> None:
        self._tracker = ChainTracker()
        self._whole: set[str] = set()

    def begin(self, public_key: str) -> None:
        """A credential was announced before our eyes: of its chain we see everything."""
        self._whole.add(public_key)

    def follow(self, event: Event, *, live: bool) -> int | None:
        """Take the sender's next event. The chain moves on even where it does not join.

        Args:
            event: verified.
            live: whether it was stored after the reader began.

        Returns:
            The number that the event should have had, if it does not join; else None.
        """
        expected = self._tracker.expected(event.key)
        is_whole = event.key in self._whole
        if live:
            self._whole.add(event.key)
        if event.sequence > expected and not is_whole:
            head = ChainHead(sequence=event.sequence, digest=event.digest.hex())
            self._tracker.heads[event.key] = head
            return None
        try:
            self._tracker.follow(event)
        except SequenceError:
            return expected
        return None


def broken_at(received: StoredEvent, expected: int) -> ChainBroken:
    """What is wrong: the event does not have the number that its sender's next one must have."""
    event = received.event
    return ChainBroken(
        sender=event.source,
        key=event.key,
        expected_sequence=expected,
        found_sequence=event.sequence,
        stream_sequence=received.stream_sequence,
    )


def alarm_of(broken: ChainBroken, received: StoredEvent) -> Draft:
    """The event that says so; whoever says it says it under the same id."""
    event_id = derive_id("chain.broken", str(received.stream_sequence))
    return Draft(run=SYSTEM_RUN, payload=broken, id=event_id, cause=received.event.id)


class ChainAlarms:
    """Which alarms are to be raised: those that the log does not hold yet."""

    def __init__(self) -> None:
        self._chains = ReceivedChains()
        self._waiting: dict[int, Draft] = {}
        self._said: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, received: StoredEvent, *, live: bool) -> ChainBroken | None:
        """Take the next event of the log, `live` if it was stored after the reader began.

        Returns:
            What is wrong with it, if it does not join its sender's chain.
        """
        event = received.event
        expected = self._chains.follow(event, live=live)
        if event.run == SYSTEM_RUN:
            match received.payload():
                case IdentityIssued(public_key=public_key, renews=False) if live:
                    self._chains.begin(public_key)
                case ChainBroken(stream_sequence=stream_sequence, cause=""):
                    self._said.add(stream_sequence)
        if expected is None:
            return None
        broken = broken_at(received, expected)
        self._waiting[received.stream_sequence] = alarm_of(broken, received)
        return broken

    def first(self) -> Draft | None:
        """The alarm that is to be raised next; whoever raises it says it under the same id."""
        for stream_sequence in tuple(self._waiting):
            if stream_sequence not in self._said:
                return self._waiting[stream_sequence]
            del self._waiting[stream_sequence]
        return None

    def done(self, draft: Draft) -> None:
        """An alarm needs not be raised again."""
        for stream_sequence in [place for place, it in self._waiting.items() if it is draft]:
            del self._waiting[stream_sequence]
