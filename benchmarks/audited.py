"""Events per second: published, verified and audited end to end, and audited of a full stream."""

import asyncio
import time
from contextlib import AsyncExitStack

import nats
import uvloop
from nacl.signing import SigningKey
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from actors.auditor import Auditor
from benchmarks.world import PAYLOAD_BYTES, beside, broker, gone, known, plain_server, postgres
from bus.event import Draft, derive_id
from bus.payloads import RunSubmitted
from bus.subjects import subject_for
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.postgres import migrate, open_pool
from tests.broker import Broker

EVENTS = 6_000
SENDERS = 32
DEADLINE_S = 120
RUN = "bench"
RAW = subject_for("raw", RunSubmitted.TYPE)


async def measure(sync: str) -> dict[str, float]:
    """Events per second, of ours and of raw nats-py (published and consumed, no more)."""
    with postgres() as database:
        async with broker(sync) as world:
            ours = await _ours(world, database)
    with postgres() as database:
        async with broker(sync) as world:
            stored = await _stored_before(world, database)
    async with plain_server(sync) as url:
        return {
            "signed, sealed, verified": ours,
            "raw nats-py, unsigned": await _raw(url),
            "stored before, then audited": stored,
        }


async def _ours(world: Broker, database: str) -> float:
    async with open_pool(database) as pool:
        await migrate(pool)
        store = AuditStore(pool)
        with (
            beside(audit_all, str(world.directory), world.port, database),
            beside(send_all, str(world.directory), world.port) as senders,
        ):
            rate = await _rate(store)
            await gone(senders, DEADLINE_S)
            return rate


async def _stored_before(world: Broker, database: str) -> float:
    """From the stream to the signed checkpoint, with nobody sending meanwhile."""
    async with open_pool(database) as pool:
        await migrate(pool)
        store = AuditStore(pool)
        with beside(send_all, str(world.directory), world.port) as senders:
            await gone(senders, DEADLINE_S)
        with beside(audit_all, str(world.directory), world.port, database):
            return await _rate(store)


async def _rate(store: AuditStore) -> float:
    """Leaves per second, from the first that are there to the last."""
    async with asyncio.timeout(DEADLINE_S):
        first, began = await _audited(store, 1)
        last, ended = await _audited(store, EVENTS)
    return (last - first) / (ended - began)


async def _audited(store: AuditStore, leaves: int) -> tuple[int, float]:
    """How many leaves the audit log has once there are so many, and when that was seen.

    The start of the processes is not counted. The question costs a row, whatever is there.
    """
    while (there := (await store.reach()).size) < leaves:  # noqa: ASYNC110 - nobody calls
        await asyncio.sleep(0.01)
    return there, time.perf_counter()


def send_all(directory: str, port: int) -> None:
    """One process: so many senders, each with its own chain."""
    uvloop.run(_send_all(known(directory, port)))


async def _send_all(world: Broker) -> None:
    async with AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(world.joined("gateway", f"gateway-{n}"))
            for n in range(SENDERS)
        ]
        payload = RunSubmitted(
            objective="x" * PAYLOAD_BYTES, workflow="sparc", model="none", requested_by="bench"
        )

        async def send(sender: int) -> None:
            for number in range(sender, EVENTS, SENDERS):
                event_id = derive_id("event", str(number))
                draft = Draft(run=RUN, payload=payload, id=event_id, on_behalf_of="bench")
                await logs[sender].append(draft)

        await asyncio.gather(*(send(sender) for sender in range(SENDERS)))


def audit_all(directory: str, port: int, database: str) -> None:
    """Another process: the auditor, as it is in the swarm."""
    uvloop.run(_audit_all(known(directory, port), database))


async def _audit_all(world: Broker, database: str) -> None:
    sign = checkpoint_signer("bench", SigningKey.generate())
    async with open_pool(database) as pool, world.joined("auditor") as log:
        await Auditor(log, AuditStore(pool), sign).run()


async def _raw(url: str) -> float:
    connection = await nats.connect(url)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
    events = await connection.jetstream().subscribe(RAW, stream="EVENTS", config=config)
    with beside(send_raw, url) as senders:
        await events.next_msg(timeout=30)
        began = time.perf_counter()
        for _ in range(EVENTS - 1):
            await events.next_msg(timeout=30)
        rate = EVENTS / (time.perf_counter() - began)
        await gone(senders, 30)
    await connection.close()
    return rate


def send_raw(url: str) -> None:
    """The same senders without signatures and chains."""
    uvloop.run(_send_raw(url))


async def _send_raw(url: str) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream()

    async def send(sender: int) -> None:
        for _ in range(sender, EVENTS, SENDERS):
            await stream.publish(RAW, b"x" * PAYLOAD_BYTES)

    await asyncio.gather(*(send(sender) for sender in range(SENDERS)))
    await connection.close()
