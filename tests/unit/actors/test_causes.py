"""Which events answer one that the log does not have before them."""

from datetime import UTC, datetime

from actors.causes import Causes, uncaused
from bus.errors import BadSignature
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.payloads import ChainBroken, RetryRequested
from bus.received import RefusedEvent, refused_event
from bus.signing import Sender
from bus.subjects import SYSTEM_RUN
from tests.sending import new_sender

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Batches:
    """Batches of one sender's events, in the order of the log."""

    def __init__(self) -> None:
        self._sender: Sender = new_sender()
        self._place = 0

    def event(self, name: str, cause: str | None = None) -> StoredEvent:
        draft = Draft(
            run="r1", payload=RetryRequested(requested_by="ann"), id=derive_id(name), cause=cause
        )
        event: Event = self._sender.sign(draft)
        self._sender.advance(event)
        self._place += 1
        return StoredEvent(event=event, stream_sequence=self._place, stored_at=NOW)

    def refused(self, name: str) -> RefusedEvent:
        stored = self.event(name)
        return refused_event(stored.event, stored.stream_sequence, NOW, BadSignature())


def test_a_cause_earlier_in_the_batch_is_there() -> None:
    batch = Batches()
    first = batch.event("a")
    assert Causes().take([first, batch.event("b", first.event.id)]) == {}


def test_a_cause_of_an_earlier_batch_is_there_until_it_is_forgotten() -> None:
    batch, causes = Batches(), Causes(remembered=2)
    first = batch.event("a")
    assert causes.take([first]) == {}
    assert causes.take([batch.event("b", first.event.id)]) == {}
    assert causes.take([batch.event("c")]) == {}
    late = batch.event("d", first.event.id)
    assert causes.take([late]) == {first.event.id: [late]}


def test_a_cause_that_was_never_seen_is_asked_for_once_for_all_that_answer_it() -> None:
    batch = Batches()
    one, other = batch.event("a", "gone"), batch.event("b", "gone")
    assert Causes().take([one, batch.event("c"), other]) == {"gone": [one, other]}


def test_a_cause_that_comes_later_or_was_refused_is_not_there() -> None:
    batch = Batches()
    early = batch.event("a", derive_id("b"))
    later, refused = batch.event("b"), batch.refused("c")
    answer = batch.event("d", derive_id("c"))
    asked = Causes().take([early, later, refused, answer])
    assert asked == {derive_id("b"): [early], derive_id("c"): [answer]}


def test_an_alarm_names_the_sender_the_sequence_and_what_is_missing() -> None:
    batch = Batches()
    batch.event("a")
    event = batch.event("b", "x" * 100)
    draft = uncaused(event)
    assert (draft.run, draft.cause) == (SYSTEM_RUN, event.event.id)
    assert draft.payload == ChainBroken(
        sender="swarm://gateway/gateway-1",
        key=event.event.key,
        expected_sequence=2,
        found_sequence=2,
        stream_sequence=2,
        cause="x" * 64,
    )
    assert draft.id == uncaused(event).id
