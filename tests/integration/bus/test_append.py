"""Append when confirmations get lost, callers give up, and others use our ids."""

import asyncio
from collections.abc import Mapping

import pytest

from actors.authority import announcement
from bus.connection import Connection, PublishAck
from bus.errors import BusUnreachable, PayloadTooLarge, PublishConflict, PublishUnconfirmed
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog, Expected
from bus.payloads import AgentStarted, RunCompleted, RunFailed, Usage
from bus.received import RefusedEvent
from bus.reference import MAX_OBJECT_BYTES
from bus.subjects import run_filter
from bus.trust import ChainTracker
from tests.broker import Broker
from tests.integration.bus.test_log import assigned, publish_raw, read_all, submitted


class Unreliable:
    """Stands in for a connection's publish: loses the questions or the answers it is told to."""

    def __init__(self, connection: Connection, plan: list[str]) -> None:
        self.connection, self.plan = connection, plan
        self.stored = asyncio.Event()
        self.publish = connection.publish
        connection.publish = self  # type: ignore[method-assign]

    async def __call__(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> PublishAck:
        step = self.plan.pop(0) if self.plan else "works"
        if step == "question lost":
            raise PublishUnconfirmed("made up")
        ack = await self.publish(subject, data, headers, timeout_s=timeout_s)
        if step == "answer lost":
            raise PublishUnconfirmed("made up")
        if step == "answer never comes":
            self.stored.set()
            await asyncio.Event().wait()
        return ack


def ended(run: str) -> Draft:
    return Draft(run=run, payload=RunFailed(code="x", message="y"), id=derive_id("run.ended", run))


async def intact(log: EventLog, run: str, count: int) -> None:
    """The run's log holds that many events, all trusted, and every chain joins."""
    received = await read_all(log, run)
    stored = [r for r in received if isinstance(r, StoredEvent)]
    assert len(received) == len(stored) == count
    tracker = ChainTracker()
    for one in stored:
        tracker.follow(one.event)


@pytest.mark.parametrize(
    "plan",
    [
        ["question lost"],
        ["answer lost"],
        ["question lost", "answer lost", "answer lost"],
        ["works", "answer lost", "works", "question lost"],
    ],
)
async def test_what_gets_lost_is_sent_again_and_stored_once(
    broker: Broker, run: str, plan: list[str]
) -> None:
    async with broker.joined("gateway") as gateway:
        Unreliable(gateway.connection, plan)
        for n in range(3):
            await gateway.append(submitted(run, f"job {n}"))
        await intact(gateway, run, 3)


async def test_a_lost_confirmation_is_no_conflict_with_ourselves(broker: Broker, run: str) -> None:
    """The stream compares sequences before ids: its answer to the retry is a refusal."""
    async with broker.joined("coordinator") as coordinator:
        Unreliable(coordinator.connection, ["answer lost"])
        none_yet = Expected(subject_filter=run_filter(run), stream_sequence=0)
        first = await coordinator.append(assigned(run), expected=none_yet)
        view = Expected(subject_filter=run_filter(run), stream_sequence=first.stream_sequence)
        await coordinator.append(assigned(run, 2), expected=view)
        await intact(coordinator, run, 2)


async def test_expecting_no_event_conflicts_with_any(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator:
        none_yet = Expected(subject_filter=run_filter(run), stream_sequence=0)
        await coordinator.append(assigned(run, 1), expected=none_yet)
        with pytest.raises(PublishConflict):
            await coordinator.append(assigned(run, 2), expected=none_yet)
        await intact(coordinator, run, 1)


async def test_an_expectation_is_only_about_its_filter(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator:
        first = await coordinator.append(assigned(run, 1))
        await coordinator.append(assigned(run + "x", 1))
        view = Expected(subject_filter=run_filter(run), stream_sequence=first.stream_sequence)
        await coordinator.append(assigned(run, 2), expected=view)


async def test_a_caller_that_gives_up_after_storing_leaves_the_chain_intact(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway:
        unreliable = Unreliable(gateway.connection, ["answer never comes"])
        append = asyncio.create_task(gateway.append(submitted(run, "job 0")))
        await unreliable.stored.wait()
        append.cancel()
        await asyncio.wait((append,))
        assert append.cancelled()
        second = await gateway.append(submitted(run, "job 1"))
        assert second.event.sequence == 2
        await intact(gateway, run, 2)


async def test_an_event_in_doubt_is_stored_before_the_next(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        gateway._appender._deadline_s = -1
        unreliable = Unreliable(gateway.connection, ["question lost"])
        with pytest.raises(PublishUnconfirmed):
            await gateway.append(submitted(run, "job 0"))
        unreliable.plan = ["question lost"]
        with pytest.raises(PublishUnconfirmed):
            await gateway.append(submitted(run, "job 1"))
        await gateway.append(submitted(run, "job 2"))
        received = [r for r in await read_all(gateway, run) if isinstance(r, StoredEvent)]
        assert [r.event.id for r in received] == [
            submitted(run, "job 0").id,
            submitted(run, "job 2").id,
        ]
        await intact(gateway, run, 2)


async def test_a_decision_in_doubt_is_not_stored_once_its_view_is_stale(
    broker: Broker, run: str
) -> None:
    """Else a second coordinator's decision would be followed by a contradicting first one."""
    async with (
        broker.joined("coordinator", "coordinator-1") as slow,
        broker.joined("coordinator", "coordinator-2") as fast,
    ):
        slow._appender._deadline_s = -1
        Unreliable(slow.connection, ["question lost"])
        none_yet = Expected(subject_filter=run_filter(run), stream_sequence=0)
        with pytest.raises(PublishUnconfirmed):
            await slow.append(assigned(run, 1), expected=none_yet)
        await fast.append(assigned(run, 2), expected=none_yet)
        slow._appender._deadline_s = 10
        third = await slow.append(assigned(run, 3))
        assert third.event.sequence == 1
        received = [r for r in await read_all(fast, run) if isinstance(r, StoredEvent)]
        assert [r.event.id for r in received] == [assigned(run, 2).id, assigned(run, 3).id]


async def test_a_duplicate_is_looked_at_again_when_the_first_look_fails(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway:
        Unreliable(gateway.connection, ["answer lost"])
        look, failures = gateway.connection.message_at, [BusUnreachable("made up")]

        async def message_at(sequence: int) -> object:
            if failures:
                raise failures.pop()
            return await look(sequence)

        gateway.connection.message_at = message_at  # type: ignore[method-assign,assignment]
        await gateway.append(submitted(run))
        assert failures == []
        await intact(gateway, run, 1)


async def test_an_id_taken_by_junk_does_not_swallow_our_event(broker: Broker, run: str) -> None:
    """Ids can be foreseen: whoever may publish anything can use one first."""
    async with broker.joined("coder") as coder, broker.joined("coordinator") as coordinator:
        await coder.connection.publish(
            coder.sender.sign(started(run)).subject,
            b"junk",
            {"Nats-Msg-Id": ended(run).id},
            timeout_s=20,
        )
        stored = await coordinator.append(ended(run))
        assert stored.event.type == RunFailed.TYPE
        junk, ours = await read_all(coordinator, run)
        assert isinstance(junk, RefusedEvent)
        assert isinstance(ours, StoredEvent)
        assert ours.event == stored.event
        assert ours.stream_sequence == stored.stream_sequence
        second = await coordinator.append(assigned(run))
        assert second.event.previous == stored.event.digest.hex()


def started(run: str) -> Draft:
    payload = AgentStarted(role="coder", name="coder-1", pid=1, node="here")
    return Draft(run=run, payload=payload, id=derive_id("agent.started", run))


@pytest.mark.parametrize("status", ["100", "404", "409", "503"])
async def test_an_id_taken_with_a_status_header_does_not_stop_us(
    broker: Broker, run: str, status: str
) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as coordinator:
        await coder.connection.publish(
            coder.sender.sign(started(run)).subject,
            b"",
            {"Nats-Msg-Id": ended(run).id, "Status": status},
            timeout_s=20,
        )
        await coordinator.append(ended(run))
        kinds = [type(received) for received in await read_all(coordinator, run)]
        assert kinds == [RefusedEvent, StoredEvent]


async def test_an_id_taken_by_a_role_that_may_not_say_it_does_not_count(
    broker: Broker, run: str
) -> None:
    """The taker's event is genuine, but it is not what we say."""
    async with broker.joined("coder") as coder, broker.joined("coordinator") as coordinator:
        await coder.append(Draft(run=run, payload=started(run).payload, id=ended(run).id))
        stored = await coordinator.append(ended(run))
        assert stored.event.role == "coordinator"
        await intact(coordinator, run, 2)


async def test_another_end_of_the_same_run_counts_as_ours(broker: Broker, run: str) -> None:
    async with (
        broker.joined("coordinator", "coordinator-1") as one,
        broker.joined("coordinator", "coordinator-2") as other,
    ):
        first = await one.append(
            Draft(
                run=run,
                payload=RunCompleted(
                    document="x", steps=1, usage=Usage(prompt_tokens=1, completion_tokens=1)
                ),
                id=ended(run).id,
            )
        )
        again = await other.append(ended(run))
        assert again.event == first.event
        assert again.stream_sequence == first.stream_sequence
        assert other.sender.head.sequence == 0


async def test_appends_at_once_form_one_chain(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        stored = await asyncio.gather(
            *(gateway.append(submitted(run, f"job {n}")) for n in range(50))
        )
        assert sorted(one.event.sequence for one in stored) == list(range(1, 51))
        await intact(gateway, run, 50)


async def test_a_refused_draft_uses_up_no_number(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator:
        large = Draft(
            run=run,
            payload=RunCompleted(
                document="x" * (MAX_OBJECT_BYTES + 1),
                steps=1,
                usage=Usage(prompt_tokens=0, completion_tokens=0),
            ),
            id="large",
        )
        with pytest.raises(PayloadTooLarge):
            await coordinator.append(large)
        assert (await coordinator.append(assigned(run))).event.sequence == 1


async def test_a_credential_counts_from_its_first_announcement(broker: Broker, run: str) -> None:
    """Announcing it again must not make what was valid before look like an unknown key."""
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as reader:
        await gateway.append(submitted(run))
        async with broker.connected("authority", "authority-7") as (connection, sender):
            again = EventLog(connection, broker.trust(), broker.policy, sender)
            event = again.sender.sign(announcement(gateway.sender.credential))
            await publish_raw(again, event)
        await intact(reader, run, 1)
