"""What a coordinator says, said by hand; and a broker's administrator, who may do anything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

from bus.connection import Connection, open_connection
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.identity import LAUNCHER_ROLE, Permissions
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import Payload, RunCancelled, StepAssigned
from bus.subjects import STREAM, run_filter
from bus.work import Delivery
from policies.capabilities import inbox_prefix, queue_name
from tests.broker import Broker

P = TypeVar("P", bound=Payload)


def assigned(run: str, *, role: str = "coder", item: int = 0, attempt: int = 1) -> Draft:
    payload = StepAssigned(
        step="code",
        iteration=1,
        attempt=attempt,
        item=item,
        role=role,
        objective="Sort names",
        inputs={},
        deadline_s=30,
    )
    return Draft(
        run=run,
        payload=payload,
        id=derive_id("step.assigned", run, str(item), str(attempt)),
        suffix=(role, "normal"),
        cause=derive_id("run.submitted", run),
    )


def cancelled(run: str) -> Draft:
    payload = RunCancelled(requested_by="admin")
    return Draft(run=run, payload=payload, id=derive_id("run.ended", run))


async def forge(coordinator: EventLog, draft: Draft) -> None:
    """Store an event whose signature does not cover its time, as a lying broker may."""
    event = coordinator.sender.sign(draft)
    headers = {**event.headers, "ce-time": "2026-01-01T00:00:00%2B00:00"}
    forged = Event(subject=event.subject, headers=headers, data=event.data)
    await coordinator.connection.publish(forged.subject, forged.data, forged.headers, timeout_s=2)


def delivery(assignment: StoredEvent, deliveries: int = 1) -> Delivery:
    return Delivery(assignment=assignment, deliveries=deliveries)


def work(assignment: StoredEvent) -> StepAssigned:
    payload = assignment.payload()
    assert isinstance(payload, StepAssigned)
    return payload


async def said(log: EventLog, run: str) -> list[StoredEvent]:
    """Every verified event of a run, in the order of the log."""
    received = [each async for each in log.read(run_filter(run))]
    return [each for each in received if isinstance(each, StoredEvent)]


def kinds(events: Sequence[StoredEvent]) -> list[str]:
    return [event.event.type.removeprefix("swarm.").removesuffix(".v1") for event in events]


def payloads(events: Sequence[StoredEvent], model: type[P]) -> list[P]:
    said_there = (event.payload() for event in events)
    return [payload for payload in said_there if isinstance(payload, model)]


async def settled(log: EventLog, role: str = "coder") -> None:
    """Wait until the queue holds nothing and nobody works."""
    async with asyncio.timeout(60):
        while True:
            info = await log.connection.client.jsm().consumer_info(STREAM, queue_name(role))
            if not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def administrator(broker: Broker) -> AsyncIterator[Connection]:
    key = AgentKey.generate()
    credential = broker.authority.issue(
        key.public,
        role=LAUNCHER_ROLE,
        name="administrator",
        permissions=Permissions(publish=(">",), subscribe=(">",)),
        ttl=timedelta(minutes=5),
    )
    inbox = inbox_prefix(key.public)
    async with open_connection(broker.url, key, credential, inbox=inbox) as connection:
        yield connection


async def make_queue_anew(broker: Broker, role: str = "coder", *, lease_s: float = 1.0) -> None:
    """Delete the queue and provision it: its counts begin at one again."""
    async with administrator(broker) as connection:
        await connection.client.jsm().delete_consumer(STREAM, queue_name(role))
    await broker.provision(lease_s=lease_s)


async def forget_ids(broker: Broker) -> None:
    """Make the stream forget what ids it has seen, as it does after its window."""
    async with administrator(broker) as connection:
        manager = connection.client.jsm()
        config = (await manager.stream_info(STREAM)).config
        config.duplicate_window = 0.1
        await manager.update_stream(config)
        await asyncio.sleep(0.3)  # the broker's own clock
