# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""Large answers on their whole way, and streams that are kept within their bounds."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from actors.auditor import Auditor
from actors.member import Domain
from actors.retention import Rules
from bus.connection import Connection, open_connection
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import LAUNCHER_ROLE, Permissions
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import (
    RetryRequested,
    RunCompleted,
    RunFailed,
    StepAssigned,
    StepCompleted,
    Usage,
)
from bus.reference import ALL_OBJECTS, OBJECTS
from bus.subjects import ALL_EVENTS, STREAM, run_filter
from bus.trim import purge_run, stream_bytes
from cluster.object_recovery import Restored, lost_objects, restore_objects
from cluster.retention import Retention
from policies.capabilities import inbox_prefix
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.objects import AuditObjects
from storage.postgres import Pool
from storage.trims import TrimStore
from tests.auditing import alarm, auditing
from tests.broker import Broker
from tests.integration.bus.test_log import submitted
from tests.integration.bus.test_objects import completed, stored_objects
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
)
from tests.large import POLICY, Counter, MiB, Writer, large_submission, worker
from tests.swarming import coordinator, in_background, until_end

AT_ONCE = Rules(max_age_s=0.0, settle_s=0.0)
SIGN = checkpoint_signer("tests/growth", SigningKey.generate())


@asynccontextmanager
async def auditor(broker: Broker, pool: Pool) -> AsyncIterator[AuditStore]:
    store = AuditStore(pool)
    async with broker.joined("auditor") as log, in_background(Auditor(log, store, SIGN).run()):
        yield store


async def until_audited(store: AuditStore, log: EventLog) -> None:
    """Return once the audit log has everything that is in the stream now."""
    end = await log.last_sequence()
    async with asyncio.timeout(60):
        while (await store.reach()).stream_sequence < end:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.02)


def retention(broker: Broker, dsn: str, rules: Rules = AT_ONCE) -> Retention:
    domain = Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )
    return Retention(broker.authority, domain, dsn, rules)


def ended(run: str) -> Draft:
    payload = RunCompleted(
        document="done", steps=1, usage=Usage(prompt_tokens=0, completion_tokens=0)
    )
    return Draft(run=run, payload=payload, id=derive_id("run.ended", run))


def failed(run: str) -> Draft:
    payload = RunFailed(code="step_failed", message="it did not work", step="code")
    return Draft(run=run, payload=payload, id=derive_id("run.ended", run))


async def play(broker: Broker, run: str, end: Draft, size: int = MiB) -> None:
    """A run of three events, one of them with an object."""
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coder") as coder,
        broker.joined("coordinator") as coordinator,
    ):
        await gateway.append(submitted(run))
        await coder.append(completed(run, size))
        await coordinator.append(end)


async def in_stream(broker: Broker, run: str) -> int:
    async with broker.joined("gateway") as gateway:
        return len([received async for received in gateway.read(run_filter(run))])


async def test_a_mebibyte_passes_from_agent_to_agent_and_into_postgres(
    tmp_path: Path, pool: Pool
) -> None:
    broker = Broker(tmp_path, policy=POLICY)
    await broker.start()
    await broker.provision()
    async with (
        auditor(broker, pool) as store,
        coordinator(broker),
        worker(broker, Writer),
        worker(broker, Counter),
        broker.joined("gateway") as gateway,
    ):
        await gateway.append(large_submission("r1"))
        events = await until_end(gateway, "r1", deadline_s=30)
        await until_audited(store, gateway)
        recorded = {event.record.stream_sequence: event async for event in store.events("r1")}
        objects = AuditObjects(pool)
        large = [event for event in events if event.event.reference is not None]
        for event in large:
            row = recorded[event.stream_sequence]
            assert await objects.content_of(row) == event.event.content
    await broker.stop()
    kinds = {event.event.type for event in large}
    assert {StepCompleted.TYPE, StepAssigned.TYPE} <= kinds
    counted = [
        payload.answer
        for event in events
        if isinstance(payload := event.payload(), StepCompleted) and payload.step == "count"
    ]
    assert [count["characters"] for count in counted] > [MiB - 5]
    assert isinstance(events[-1].payload(), RunCompleted)


async def test_only_what_is_over_and_audited_leaves_the_stream(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    async with auditor(broker, pool) as store:
        await play(broker, "over", ended("over"))
        await play(broker, "failed", failed("failed"))
        await play(broker, "retried", failed("retried"))
        async with broker.joined("gateway") as gateway:
            retry = RetryRequested(requested_by="admin")
            await gateway.append(Draft(run="retried", payload=retry, id="retry"))
            await gateway.append(submitted("running"))
            await until_audited(store, gateway)
    await play(broker, "unaudited", ended("unaudited"))
    before = {run: await in_stream(broker, run) for run in ("retried", "running", "unaudited")}
    assert await retention(broker, dsn).round() == 2
    assert [await in_stream(broker, run) for run in ("over", "failed")] == [0, 0]
    assert await stored_objects(broker, "over") == {}
    assert {run: await in_stream(broker, run) for run in before} == before
    for run in ("retried", "unaudited"):
        assert await stored_objects(broker, run)
    assert await retention(broker, dsn).round() == 0
    trims = await pool.fetch("select run from audit_trim where purged_at is not null order by run")
    assert [row["run"] for row in trims] == ["failed", "over"]
    # The audit log has all of it, and the auditor, back again, has nothing to complain of.
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await until_audited(store, gateway)
        assert (await store.summary("over")).events == 3
        objects = AuditObjects(pool)
        (large,) = [
            row async for row in store.events("over") if "step.completed" in (row.record.type or "")
        ]
        assert await objects.content_of(large) == completed("over", MiB).body
        said = [
            received.event.type
            async for received in gateway.read(ALL_EVENTS)
            if isinstance(received, StoredEvent)
        ]
        assert "swarm.chain.broken.v1" not in said
    assert await retention(broker, dsn).round() == 1
    assert await in_stream(broker, "unaudited") == 0


async def test_what_was_said_after_the_end_and_is_not_audited_keeps_the_run(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await play(broker, "r1", failed("r1"))
        await until_audited(store, gateway)
    async with broker.joined("gateway") as gateway:
        retry = RetryRequested(requested_by="admin")
        await gateway.append(Draft(run="r1", payload=retry, id="retry"))
    assert await retention(broker, dsn).round() == 0
    assert await in_stream(broker, "r1") == 4


async def test_a_late_word_of_a_trimmed_run_goes_the_same_way(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    async with auditor(broker, pool) as store:
        await play(broker, "r1", ended("r1"))
        async with broker.joined("gateway") as gateway:
            await until_audited(store, gateway)
            assert await retention(broker, dsn).round() == 1
            retry = RetryRequested(requested_by="admin")
            await gateway.append(Draft(run="r1", payload=retry, id="retry"))
            await until_audited(store, gateway)
            assert await retention(broker, dsn).round() == 1
    assert await in_stream(broker, "r1") == 0
    assert len(await pool.fetch("select from audit_trim where run = 'r1'")) == 2


async def test_a_crash_between_record_and_purge_is_made_up_for(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await play(broker, "r1", ended("r1"))
        await until_audited(store, gateway)
    trims = TrimStore(pool)
    await trims.record(await trims.ended(10))
    assert await trims.ended(10) == []
    assert await in_stream(broker, "r1") == 3
    assert await retention(broker, dsn).round() == 1
    assert await in_stream(broker, "r1") == 0
    assert await trims.unpurged() == []


async def begun_to_trim(broker: Broker, pool: Pool, run: str) -> TrimStore:
    """A failed run, audited, whose trim is on record; the process died before it was purged."""
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await play(broker, run, failed(run))
        await until_audited(store, gateway)
    trims = TrimStore(pool)
    await trims.record(await trims.ended(10))
    assert len(await trims.unpurged()) == 1
    return trims


async def retry(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        asked = RetryRequested(requested_by="admin")
        await gateway.append(Draft(run=run, payload=asked, id=derive_id("retry", run)))


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_run_that_is_retried_after_its_trim_was_begun_keeps_all_it_has(
    broker: Broker, pool: Pool, dsn: str, *, is_late: bool
) -> None:
    trims = await begun_to_trim(broker, pool, "r1")
    if is_late:
        async with broker.joined("coder") as coder:
            await coder.append(completed("r1", 1, fill="y"))
    await retry(broker, "r1")
    assert await retention(broker, dsn).round() == 0
    assert await in_stream(broker, "r1") == 4 + is_late
    assert len(await stored_objects(broker, "r1")) > 0
    assert await trims.unpurged() == []
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await until_audited(store, gateway)
    assert await retention(broker, dsn).round() == 0
    assert await in_stream(broker, "r1") == 4 + is_late


async def test_a_late_word_of_a_failed_run_does_not_keep_its_trim_from_being_done(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    trims = await begun_to_trim(broker, pool, "r1")
    async with broker.joined("coder") as coder:
        await coder.append(completed("r1", 1, fill="y"))
    assert await retention(broker, dsn).round() == 1
    assert await in_stream(broker, "r1") == 1
    assert await trims.unpurged() == []


async def test_a_run_that_is_retried_while_it_is_purged_is_missed(
    broker: Broker, pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not trimmed but lost: the auditor says so, and a recovery puts it back."""
    trims = await begun_to_trim(broker, pool, "r1")
    last = (await trims.unpurged())[0].stream_sequence

    async def purge_late(connection: Connection, run: str, *, up_to: int) -> None:
        await retry(broker, run)
        await purge_run(connection, run, up_to=up_to)

    monkeypatch.setattr("cluster.retention.purge_run", purge_late)
    assert await retention(broker, dsn).round() == 0
    assert await in_stream(broker, "r1") == 1
    assert await trims.unpurged() == []
    async with auditing(broker, pool) as log:
        told = await alarm(log, lambda lost: lost.count == 3)
        assert told.last == last


async def test_a_stream_that_fills_up_loses_the_oldest_runs_first(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    rules = Rules(settle_s=0.0)
    await broker.provision(max_bytes=8 * MiB)  # two of them for objects
    async with auditor(broker, pool) as store:
        for number in range(2):
            await play(broker, f"r{number}", ended(f"r{number}"), size=700_000)
        assert await retention(broker, dsn, rules).round() == 0
        await play(broker, "r2", ended("r2"), size=450_000)
        async with broker.joined("gateway") as gateway:
            await until_audited(store, gateway)
        assert await retention(broker, dsn, rules).round() == 1
    assert [await in_stream(broker, f"r{n}") for n in range(3)] == [0, 3, 3]
    async with broker.connected("launcher") as (connection, _):
        used, bound = await stream_bytes(connection, OBJECTS)
        assert used < bound * 0.7
        assert (await stream_bytes(connection, STREAM))[0] > 0


async def test_nothing_leaves_a_stream_that_was_set_back(
    broker: Broker, pool: Pool, dsn: str, tmp_path: Path
) -> None:
    """What is new there has the numbers of what was audited, and would be taken for it."""
    old, store_directory = tmp_path / "old", tmp_path / "store"
    await broker.stop()
    shutil.copytree(store_directory, old)
    await broker.start()
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        await play(broker, "r1", failed("r1"))
        await gateway.append(submitted("r2"))
        await until_audited(store, gateway)
        last = await gateway.last_sequence()
    trims = TrimStore(pool)
    await trims.record([run for run in await trims.ended(10) if run.run == "r1"])
    await broker.stop()
    shutil.rmtree(store_directory)
    shutil.copytree(old, store_directory)
    await broker.start()
    async with broker.joined("gateway") as gateway:
        retry = RetryRequested(requested_by="admin")
        new = await gateway.append(Draft(run="r1", payload=retry, id="retry"))
        assert new.stream_sequence < last
        assert await retention(broker, dsn).round() == 0
        while await gateway.last_sequence() <= last:
            await gateway.append(submitted(f"r{await gateway.last_sequence()}"))
        assert await retention(broker, dsn).round() == 0
    assert await in_stream(broker, "r1") == 1
    assert len(await trims.unpurged()) == 1


@pytest.mark.parametrize("trimmed", [False, True])
async def test_a_stream_that_lacks_the_last_audited_event_is_trimmed_only_if_that_was_trimmed(
    broker: Broker, pool: Pool, dsn: str, *, trimmed: bool
) -> None:
    async with broker.joined("gateway") as gateway:
        async with auditor(broker, pool) as store:
            await play(broker, "r1", ended("r1"))
            await gateway.append(submitted("r2"))
            await gateway.append(submitted("r2", "the last"))
            await until_audited(store, gateway)
        last = await gateway.last_sequence()
    if trimmed:
        await pool.execute("insert into audit_trim values ('r2', $1, now(), now())", last)
    async with repairer(broker) as connection:
        await purge_run(connection, "r2", up_to=last)
    assert await retention(broker, dsn).round() == (1 if trimmed else 0)
    assert await in_stream(broker, "r1") == (0 if trimmed else 3)


async def test_objects_that_the_stream_lost_are_put_back_from_the_audit_log(
    broker: Broker, pool: Pool, dsn: str
) -> None:
    async with auditor(broker, pool) as store, broker.joined("gateway") as gateway:
        for run in ("r1", "r2", "trimmed"):
            await play(broker, run, failed(run))
        await until_audited(store, gateway)
    objects = AuditObjects(pool)
    async with repairer(broker) as connection:
        await broker_purges(connection, "obj.trimmed.>")
        (lost,) = await lost_objects(connection, objects)
        assert lost.run == "trimmed"
        await TrimStore(pool).record(
            [run for run in await TrimStore(pool).ended(10) if run.run == "trimmed"]
        )
        assert await lost_objects(connection, objects) == []
        await broker_purges(connection, "obj.r1.*.*.3")
        assert [one.run for one in await lost_objects(connection, objects)] == ["r1"]
        assert await restore_objects(connection, objects) == Restored(objects=1)
        assert await restore_objects(connection, objects) == Restored()
    async with broker.joined("gateway") as gateway:
        events = [received async for received in gateway.read(run_filter("r1"))]
    assert all(isinstance(received, StoredEvent) for received in events)


async def broker_purges(connection: Connection, subjects: str) -> None:
    await connection.manager.purge_stream(OBJECTS, subject=subjects)


@asynccontextmanager
async def repairer(broker: Broker) -> AsyncIterator[Connection]:
    key = AgentKey.generate()
    inbox = inbox_prefix(key.public)
    credential = broker.authority.issue(
        key.public,
        role=LAUNCHER_ROLE,
        name="repair",
        permissions=Permissions(publish=("$JS.API.>", ALL_OBJECTS), subscribe=(f"{inbox}.>",)),
        ttl=timedelta(minutes=1),
    )
    async with open_connection(broker.url, key, credential, inbox=inbox) as connection:
        yield connection
