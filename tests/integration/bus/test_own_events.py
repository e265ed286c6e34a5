"""A reader knows its own events again; it does not trust them for that."""

from dataclasses import replace

import pytest

from bus import verifier
from bus.event import Event, StoredEvent
from bus.payload import MAX_PAYLOAD_BYTES
from bus.received import RefusedEvent
from bus.signing import SubjectPolicy
from bus.subjects import RESERVED_RUNS
from bus.trust import verify
from tests.broker import Broker
from tests.integration.bus.test_log import read_all
from tests.integration.bus.test_objects import completed
from tests.integration.bus.test_policy import MUTE, change, fresh
from tests.sending import submitted

__all__ = ["fresh"]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the events of runs whose signatures were checked."""
    ids: list[str] = []

    def noting(
        event: Event, known: object, policy: SubjectPolicy, *, is_signed: bool, **where: object
    ) -> None:
        if event.run not in RESERVED_RUNS and not is_signed:
            ids.append(event.id)
        verify(event, known, policy, is_signed=is_signed, **where)  # type: ignore[arg-type]

    monkeypatch.setattr(verifier, "verify", noting)
    return ids


async def test_a_signature_of_ones_own_is_checked_by_others_alone(
    broker: Broker, run: str, checked: list[str]
) -> None:
    async with broker.joined("gateway") as writer, broker.joined("auditor") as other:
        sent = await writer.append(submitted(run))
        checked.clear()
        (own,) = await read_all(writer, run)
        assert checked == []
        await read_all(other, run)
        assert checked == [sent.event.id]
    assert isinstance(own, StoredEvent)
    assert own.event == sent.event
    assert own.payload() == sent.payload()


async def test_what_stands_where_ones_own_event_was_stored_is_checked(
    broker: Broker, run: str, checked: list[str]
) -> None:
    async with broker.joined("gateway") as writer, broker.joined("gateway") as other:
        theirs = await other.append(submitted(run, "theirs"))
        own = await writer.append(submitted(run, "own"))
        writer._verifier.said(replace(own, stream_sequence=theirs.stream_sequence))
        checked.clear()
        found = await read_all(writer, run)
        assert checked == [theirs.event.id]
    assert [each.event for each in found if isinstance(each, StoredEvent)] == [
        theirs.event,
        own.event,
    ]


async def test_ones_own_event_is_refused_where_the_policy_forbids_it(fresh: Broker) -> None:
    async with fresh.joined("gateway") as writer:
        await change(fresh, MUTE)
        await writer.append(submitted("r1"))
        (own,) = await read_all(writer, "r1")
        assert isinstance(own, RefusedEvent)
        assert own.error.code == "not_permitted"


async def test_few_of_ones_own_events_are_kept_and_no_large_one(broker: Broker, run: str) -> None:
    async with broker.joined("coder") as writer:
        for n in range(verifier.MOST_SAID + 2):
            await writer.append(completed(run, 10, fill=str(n % 10) * (n + 1)))
        assert len(writer._verifier._said) == verifier.MOST_SAID
        last = max(writer._verifier._said)
        await writer.append(completed(run, MAX_PAYLOAD_BYTES + 1, fill="x"))
        assert max(writer._verifier._said) == last
