"""The broker loses large payloads, or the way to the work that needs them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import RunCompleted, StepAssigned
from bus.reference import OBJECTS
from bus.subjects import STREAM, run_filter
from cluster.home import locate
from cluster.object_recovery import lost_objects
from cluster.survivors import Survivors
from storage.objects import AuditObjects
from storage.postgres import Pool
from tests.auditing import DEADLINE_S, administrator, auditing, recover, until_audited
from tests.broker import Broker
from tests.faults.damage import assert_equal_to_audit
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.large import POLICY, Counter, Writer, large_submission, worker
from tests.swarming import coordinator, until_end

__all__ = ["dsn", "pool", "postgres", "template"]

RUN = "large"


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), policy=POLICY)
    await broker.start()
    await broker.provision(lease_s=1.0)
    yield broker
    await broker.stop()


@pytest.fixture
def survivors(tmp_path: Path) -> Survivors:
    return Survivors(locate(tmp_path))


async def halted(broker: Broker, pool: Pool) -> StoredEvent:
    """A run whose second step is assigned, with an object, and taken by nobody; all audited."""
    async with auditing(broker, pool) as auditor:
        async with (
            broker.joined("gateway") as gateway,
            coordinator(broker),
            worker(broker, Writer),
        ):
            await gateway.append(large_submission(RUN))
            async with asyncio.timeout(DEADLINE_S):
                assigned = await assignment(gateway, Counter.role)
        await until_audited(auditor, pool)
    assert assigned.event.reference is not None
    return assigned


async def assignment(log: EventLog, role: str) -> StoredEvent:
    async with aclosing(log.follow(run_filter(RUN))) as following:
        async for received in following:
            assert isinstance(received, StoredEvent)
            payload = received.payload()
            if isinstance(payload, StepAssigned) and payload.role == role:
                return received
    raise AssertionError("it was not assigned")


async def completes(broker: Broker, pool: Pool) -> None:
    async with auditing(broker, pool) as auditor:
        async with (
            broker.joined("gateway", "gateway-2") as gateway,
            coordinator(broker, "coordinator-2"),
            worker(broker, Counter),
        ):
            events = await until_end(gateway, RUN)
        await until_audited(auditor, pool)
    assert isinstance(events[-1].payload(), RunCompleted)


async def asked(broker: Broker, request: str, **question: str) -> None:
    async with administrator(broker) as connection:
        body = json.dumps(question).encode()
        answer = json.loads((await connection.client.request(f"$JS.API.{request}", body)).data)
        assert answer.get("success"), answer


async def first_event_deleted(broker: Broker) -> None:
    await asked(broker, f"STREAM.PURGE.{STREAM}", filter="evt.*.*.run.submitted")


async def objects_deleted(broker: Broker) -> None:
    await asked(broker, f"STREAM.DELETE.{OBJECTS}")


async def both_deleted(broker: Broker) -> None:
    await asked(broker, f"STREAM.DELETE.{STREAM}")
    await objects_deleted(broker)


async def a_chunk_deleted(broker: Broker) -> None:
    await asked(broker, f"STREAM.PURGE.{OBJECTS}", filter="obj.*.*.*.3")


Damage = Callable[[Broker], Awaitable[None]]


@pytest.mark.parametrize(
    ("damage", "objects"),
    [(first_event_deleted, 0), (objects_deleted, 2), (both_deleted, 2), (a_chunk_deleted, 2)],
)
async def test_a_run_with_a_large_open_assignment_survives_a_recovery(
    broker: Broker, pool: Pool, survivors: Survivors, damage: Damage, objects: int
) -> None:
    assigned = await halted(broker, pool)
    await damage(broker)
    async with broker.connected("auditor") as (connection, _):
        assert len(await lost_objects(connection, AuditObjects(pool))) == objects
    done = await recover(broker, pool, survivors)
    assert (done.objects, done.gone) == (objects, ())
    if done.starts is not None:
        assert done.starts.by_role == {Counter.role: assigned.stream_sequence}
    async with broker.connected("auditor") as (connection, _):
        assert await lost_objects(connection, AuditObjects(pool)) == []
    await assert_equal_to_audit(broker, pool)
    await completes(broker, pool)
    assert (await recover(broker, pool, survivors)).was_whole


async def test_what_the_audit_log_has_lost_as_well_is_named_and_holds_nothing_up(
    broker: Broker, pool: Pool, survivors: Survivors
) -> None:
    assigned = await halted(broker, pool)
    reference = assigned.event.reference
    assert reference is not None
    await pool.execute("alter table audit_object disable trigger append_only")
    await pool.execute(
        "delete from audit_object where digest = $1", bytes.fromhex(reference.digest)
    )
    await both_deleted(broker)
    done = await recover(broker, pool, survivors)
    assert done.objects == 1
    assert [owed.reference for owed in done.gone] == [reference]
    assert done.starts is not None
    assert done.starts.by_role == {Counter.role: assigned.stream_sequence}
    assert not survivors.exist
    await assert_equal_to_audit(broker, pool)
