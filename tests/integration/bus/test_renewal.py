"""A credential that is changed while its connection works: nothing is lost, nothing repeated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import nats.errors
import pytest

from bus.connection import Connection
from bus.errors import BusUnreachable
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import AgentStarted, AgentStopped, StepAssigned
from bus.subjects import run_filter
from bus.trust import ChainTracker
from bus.work import Ack, Delivery, Verdict, WorkQueue
from policies.capabilities import inbox_prefix, queue_name
from tests.broker import Broker
from tests.swarming import in_background

LIFE = timedelta(seconds=6)
CHANGES = 10
APPENDED_BETWEEN = 20


@asynccontextmanager
async def short_lived(broker: Broker, role: str) -> AsyncIterator[EventLog]:
    """A member whose credential has a few seconds, changed each second until the block ends."""
    async with broker.joined(role, f"{role}-{uuid4().hex[:6]}", ttl=LIFE) as log:
        log.connection.is_renewed = True
        yield log


async def renewed(broker: Broker, log: EventLog) -> None:
    sender = log.sender
    fresh = broker.credential(sender.credential.role, sender.credential.name, sender.key, ttl=LIFE)
    await broker.announce(fresh)
    await log.renew(fresh)


def started(run: str, number: int) -> Draft:
    payload = AgentStarted(role="gateway", name="g", pid=number, node="n")
    return Draft(run=run, payload=payload, id=derive_id("t", run, str(number)))


async def test_appends_and_a_reader_go_on_over_several_credentials(broker: Broker) -> None:
    run = f"r{uuid4().hex[:12]}"
    async with short_lived(broker, "gateway") as log:
        appended, seen = 0, []
        finished = asyncio.Event()

        async def append() -> None:
            nonlocal appended
            while not finished.is_set():
                appended += 1
                await log.append(started(run, appended))
            appended += 1
            last = AgentStopped(role="gateway", name="g", last_sequence=appended)
            await log.append(Draft(run=run, payload=last, id=derive_id("last", run)))

        async def follow() -> None:
            async with aclosing(log.follow_once(run_filter(run))) as events:
                async for received in events:
                    assert isinstance(received, StoredEvent), received.error
                    seen.append(received)
                    if received.event.type == AgentStopped.TYPE:
                        return

        first = log.connection.client
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(append())
            group.create_task(follow())
            for number in range(1, CHANGES + 1):
                await asyncio.sleep(0.5)
                while appended < APPENDED_BETWEEN * number:  # noqa: ASYNC110 - as many as there are
                    await asyncio.sleep(0.05)
                await renewed(broker, log)
            finished.set()
    assert log.connection.client is not first
    assert appended > APPENDED_BETWEEN * CHANGES
    assert [each.event.sequence for each in seen] == list(range(1, appended + 1))
    chain = ChainTracker()
    for each in seen:
        chain.follow(each.event)


async def test_work_in_hand_is_not_handed_out_again(broker: Broker) -> None:
    """The work outlasts its lease; heartbeats and the answer go through the current client."""
    run, objective = f"r{uuid4().hex[:12]}", "x"
    done: list[Delivery] = []
    finished = asyncio.Event()
    async with broker.joined("coordinator") as boss, short_lived(broker, "critic") as log:

        async def work(delivery: Delivery) -> Verdict:
            if delivery.assignment.event.run != run:
                return Ack()
            if not done:
                for _ in range(CHANGES):
                    await asyncio.sleep(0.7)
                    await renewed(broker, log)
            done.append(delivery)
            if len(done) == 20:
                finished.set()
            return Ack()

        queue = WorkQueue(log, queue_name("critic"), lease_s=2.0)
        async with in_background(queue.run(work)), asyncio.timeout(90):
            for attempt in range(1, 21):
                payload = StepAssigned(
                    step="s", iteration=1, attempt=attempt, role="critic", objective=objective,
                    inputs={}, deadline_s=60,
                )  # fmt: skip
                await boss.append(
                    Draft(
                        run=run, payload=payload, id=derive_id("a", run, str(attempt)),
                        suffix=("critic", "normal"),
                    )
                )  # fmt: skip
            await finished.wait()
    assert [delivery.deliveries for delivery in done] == [1] * 20


async def test_the_broker_ends_what_was_not_renewed_and_takes_the_old_credential_no_more(
    broker: Broker,
) -> None:
    key = AgentKey.generate()
    old = broker.credential("gateway", "gateway-1", key, ttl=timedelta(seconds=4))
    inbox = inbox_prefix(key.public)
    connection = await Connection.open(broker.url, key, old, inbox=inbox)
    async with asyncio.timeout(20):
        await connection.refused.wait()
    assert connection.is_closed
    whole_second = old.expires_at + timedelta(seconds=1) - datetime.now(UTC)  # as it counts
    await asyncio.sleep(max(0.0, whole_second.total_seconds()))
    with pytest.raises(BusUnreachable, match="(?i)authorization"):
        await Connection.open(broker.url, key, old, inbox=inbox, deadline_s=3)
    await connection.close()


async def test_what_the_broker_has_cut_goes_on_under_a_new_credential(broker: Broker) -> None:
    async with short_lived(broker, "gateway") as log:
        run = f"r{uuid4().hex[:12]}"
        await log.append(started(run, 1))
        async with asyncio.timeout(30):
            await log.connection.refused.wait()
        assert not log.connection.is_closed
        with suppress(BusUnreachable, nats.errors.Error):
            await log.last_sequence()
        await renewed(broker, log)
        stored = await log.append(started(run, 2))
        assert stored.event.sequence == 2
