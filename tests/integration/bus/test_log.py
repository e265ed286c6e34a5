"""The event log on a real broker."""

import asyncio
from datetime import timedelta

import pytest
from nats.aio.msg import Msg

from bus.connection import Connection
from bus.errors import BusUnreachable, PublishConflict, PublishDenied
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.listener import Inbox
from bus.log import EventLog, Expected
from bus.nkey import AgentKey
from bus.payloads import ResultRefused, RunFailed, RunSubmitted, StepAssigned
from bus.received import Received, RefusedEvent
from bus.signing import Sender
from bus.subjects import run_filter
from policies.capabilities import inbox_prefix
from tests.broker import Broker


def submitted(run: str, objective: str = "Design a rate limiter") -> Draft:
    return Draft(
        run=run,
        payload=RunSubmitted(
            objective=objective, workflow="sparc", model="scripted", requested_by="admin"
        ),
        id=derive_id("run.submitted", run, objective),
        on_behalf_of="admin",
    )


def assigned(run: str, number: int = 1) -> Draft:
    return Draft(
        run=run,
        payload=StepAssigned(
            step="code",
            iteration=1,
            attempt=number,
            role="coder",
            objective="x",
            inputs={},
            deadline_s=10,
        ),
        id=derive_id("step.assigned", run, str(number)),
        suffix=("coder", "normal"),
    )


async def read_all(log: EventLog, run: str, after: int = 0) -> list[Received]:
    return [received async for received in log.read(run_filter(run), after=after)]


async def test_what_is_appended_is_read_back_verified(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as reader:
        sent = await gateway.append(submitted(run))
        (received,) = await read_all(reader, run)
        assert isinstance(received, StoredEvent)
        assert received.event == sent.event
        assert received.stream_sequence == sent.stream_sequence
        assert received.event.on_behalf_of == "admin"
        assert received.event.sequence == 1
        assert await read_all(reader, run, after=sent.stream_sequence) == []


async def test_a_repeated_id_is_stored_once_and_uses_up_no_number(broker: Broker, run: str) -> None:
    async with (
        broker.joined("gateway", "gateway-1") as one,
        broker.joined("gateway", "gateway-2") as other,
    ):
        first = await one.append(submitted(run))
        again = await other.append(submitted(run))
        assert again.event == first.event
        assert other.sender.head.sequence == 0
        assert len(await read_all(one, run)) == 1


async def test_a_retry_of_our_own_bytes_moves_the_chain_on(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        event = gateway.sender.sign(submitted(run))
        await gateway.connection.publish(
            event.subject, event.data, {**event.headers, "Nats-Msg-Id": event.id}, timeout_s=20
        )
        gateway._appender._unresolved = event  # as after a confirmation that was lost
        second = await gateway.append(submitted(run, "another"))
        assert second.event.sequence == 2
        assert second.event.previous == event.digest.hex()


async def test_an_append_on_a_stale_view_is_a_conflict(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
        first = await gateway.append(submitted(run))
        view = Expected(subject_filter=run_filter(run), stream_sequence=first.stream_sequence)
        await coordinator.append(assigned(run, 1), expected=view)
        with pytest.raises(PublishConflict):
            await coordinator.append(assigned(run, 2), expected=view)
        third = await coordinator.append(assigned(run, 3))
        assert third.event.sequence == 2


async def test_a_role_is_refused_before_signing(broker: Broker, run: str) -> None:
    async with broker.joined("coder") as coder:
        with pytest.raises(PublishDenied, match="coder"):
            await coder.append(submitted(run))


async def test_the_broker_refuses_at_once_where_the_sender_does_not(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        event = gateway.sender.sign(submitted(run))
        async with asyncio.timeout(20):
            with pytest.raises(PublishDenied, match="broker"):
                await coder.connection.publish(
                    event.subject, event.data, event.headers, timeout_s=60
                )


async def test_a_connection_without_a_valid_credential_is_refused(broker: Broker) -> None:
    key = AgentKey.generate()
    stranger = Broker(broker.directory, port=broker.port)
    with pytest.raises(BusUnreachable, match="(?i)authorization"):
        await Connection.open(
            broker.url,
            key,
            stranger.credential("coder", "coder-1", key),
            inbox=inbox_prefix(key.public),
            deadline_s=3,
        )


def with_header(event: Event, name: str, value: str) -> Event:
    return Event(subject=event.subject, headers={**event.headers, name: value}, data=event.data)


async def publish_raw(log: EventLog, event: Event, subject: str | None = None) -> int:
    ack = await log.connection.publish(
        subject or event.subject, event.data, event.headers, timeout_s=20
    )
    return ack.sequence


async def refusal_of(log: EventLog, run: str, sequence: int) -> RefusedEvent:
    found = [r for r in await read_all(log, run, sequence - 1) if r.stream_sequence == sequence]
    assert len(found) == 1
    assert isinstance(found[0], RefusedEvent)
    return found[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce-cause", "0" * 32),
        ("ce-time", "2026-01-01T00:00:00+00:00"),
        ("ce-onbehalfof", "mallory"),
        ("ce-extra", "x"),
        ("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
    ],
)
async def test_a_changed_header_is_not_acted_on(
    broker: Broker, run: str, name: str, value: str
) -> None:
    async with broker.joined("gateway") as gateway:
        event = with_header(gateway.sender.sign(submitted(run)), name, value)
        refused = await refusal_of(gateway, run, await publish_raw(gateway, event))
        assert refused.error.code in ("bad_signature", "expired_key")


async def test_a_changed_payload_is_not_acted_on(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        event = gateway.sender.sign(submitted(run))
        changed = Event(
            subject=event.subject,
            headers=event.headers,
            data=event.data.replace(b"rate", b"hate"),
        )
        refused = await refusal_of(gateway, run, await publish_raw(gateway, changed))
        assert refused.error.code == "bad_signature"


async def test_an_event_published_again_on_another_subject_is_not_acted_on(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coordinator") as coordinator:
        draft = Draft(run=run, payload=RunFailed(code="x", message="y"), id=derive_id("e", run))
        event = coordinator.sender.sign(draft)
        elsewhere = event.subject.replace("run.failed", "run.completed")
        refused = await refusal_of(
            coordinator, run, await publish_raw(coordinator, event, elsewhere)
        )
        assert refused.error.code == "subject_mismatch"


async def test_an_event_of_another_run_is_not_acted_on_here(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        event = gateway.sender.sign(submitted(run))
        other = gateway.sender.sign(submitted(run + "x"))
        refused = await refusal_of(gateway, run, await publish_raw(gateway, other, event.subject))
        assert refused.error.code == "subject_mismatch"


async def test_an_unknown_key_is_not_acted_on(broker: Broker, run: str) -> None:
    async with broker.joined("gateway", announce=False) as gateway:
        event = gateway.sender.sign(submitted(run))
        refused = await refusal_of(gateway, run, await publish_raw(gateway, event))
        assert refused.error.code == "unknown_key"


async def test_an_event_older_than_its_credential_is_not_acted_on(broker: Broker, run: str) -> None:
    async with broker.joined("gateway", announce=False) as gateway:
        sequence = await publish_raw(gateway, gateway.sender.sign(submitted(run)))
        await broker.announce(gateway.sender.credential)
        refused = await refusal_of(gateway, run, sequence)
        assert refused.error.code == "unknown_key"


async def test_an_expired_key_is_not_acted_on(broker: Broker, run: str) -> None:
    key = AgentKey.generate()
    expired = broker.credential("gateway", "gateway-9", key, ttl=timedelta(seconds=-60))
    await broker.announce(expired)
    async with broker.joined("gateway") as gateway:
        event = Sender(key, expired, broker.policy).sign(submitted(run))
        refused = await refusal_of(gateway, run, await publish_raw(gateway, event))
        assert refused.error.code == "expired_key"


async def test_bytes_that_are_no_event_are_refused_and_the_reader_goes_on(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway:
        subject = gateway.sender.sign(submitted(run)).subject
        await gateway.connection.publish(subject, b"\x00", {}, timeout_s=20)
        await gateway.append(submitted(run))
        kinds = [type(received) for received in await read_all(gateway, run)]
        assert kinds == [RefusedEvent, StoredEvent]


async def test_a_refusal_is_recorded_once_however_many_saw_it(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
        subject = gateway.sender.sign(submitted(run)).subject
        await gateway.connection.publish(subject, b"junk", {}, timeout_s=20)
        (junk,) = await read_all(gateway, run)
        assert isinstance(junk, RefusedEvent)
        await gateway.record_refusal(junk)
        await coordinator.record_refusal(junk)
        records = [r for r in await read_all(gateway, run) if isinstance(r, StoredEvent)]
        assert [record.event.type for record in records] == ["swarm.event.refused.v1"]


async def test_a_follower_sees_old_and_new_events_in_order(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as reader:
        sent = [
            (await gateway.append(submitted(run, f"job {n}"))).stream_sequence for n in range(3)
        ]
        seen: list[int] = []
        async for received in reader.follow(run_filter(run)):
            seen.append(received.stream_sequence)
            if len(seen) == 3:
                sent += [
                    (await gateway.append(submitted(run, f"job {n}"))).stream_sequence
                    for n in range(3, 6)
                ]
            if len(seen) == 6:
                break
        assert seen == sent


@pytest.mark.parametrize("missed", [1, 3, 5])
async def test_a_read_that_does_not_get_what_the_broker_sent_says_so(
    broker: Broker, run: str, monkeypatch: pytest.MonkeyPatch, missed: int
) -> None:
    async with broker.joined("gateway") as gateway:
        for number in range(5):
            await gateway.append(submitted(run, f"job {number}"))
        take = Inbox._take

        def lose_one(inbox: Inbox, message: Msg) -> None:
            if inbox.is_control(message) or message.metadata.sequence.consumer != missed:
                take(inbox, message)

        monkeypatch.setattr(Inbox, "_take", lose_one)
        with pytest.raises(BusUnreachable):
            async with asyncio.timeout(10):
                await read_all(gateway, run)


async def test_a_result_of_another_role_cannot_be_signed(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator:
        stored = await coordinator.append(
            Draft(
                run=run,
                payload=ResultRefused(
                    step="code", iteration=1, attempt=1, epoch=1, refused="a", reason="late"
                ),
                id=derive_id("result.refused", run),
            )
        )
        assert stored.event.role == "coordinator"
