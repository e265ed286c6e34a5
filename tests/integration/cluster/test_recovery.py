"""`swarm doctor` and `swarm recover` on a home whose swarm is stopped, with its own servers."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from actors.auditor import Auditor, Sign
from actors.authority import acting_authority
from actors.member import Enrolment, joined
from bus.log import EventLog
from bus.payload import MAX_PAYLOAD_BYTES
from bus.provision import provision
from cluster import state as states
from cluster.errors import HomeInUse, NotRunning, RecoveryUnfinished
from cluster.home import Home
from cluster.log_findings import log_findings
from cluster.log_servers import LogServers, keeping, of_stopped
from cluster.recovery import recover, refuse_unfinished
from cluster.settings import Settings
from cluster.survivors import Survivors
from policies.capabilities import queue_name
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.postgres import migrate, open_pool
from swarm.cli.recover import lines
from tests.auditing import until_audited
from tests.integration.bus.test_objects import completed
from tests.integration.cluster.conftest import Configure
from tests.sending import submitted
from tests.swarming import in_background

pytestmark = pytest.mark.timeout(400)

SIGN = checkpoint_signer("example.com/audit", SigningKey(bytes(32)))
SECRET = b"secret"
EVENTS = 30


@pytest.fixture
def settings(home: Home, configure: Configure) -> Settings:
    return configure(home, jetstream_max_bytes=64 << 20)


@asynccontextmanager
async def member(servers: LogServers, role: str) -> AsyncIterator[EventLog]:
    domain = servers.domain()
    async with (
        acting_authority(servers.root, SECRET, domain, f"authority-{role}") as registrar,
        joined(domain, Enrolment.grant(SECRET, role, f"{role}-1"), registrar.issue) as log,
    ):
        yield log


async def audited_events(settings: Settings, sign: Sign = SIGN) -> None:
    """A home whose swarm has written some events, all audited."""
    async with of_stopped(settings) as servers:
        async with keeping(servers) as connection:
            queues = {"coder": queue_name("coder")}
            await provision(connection, queues=queues, lease_s=1.0, max_bytes=64 << 20)
        async with open_pool(servers.database_url) as pool:
            await migrate(pool)
            async with member(servers, "gateway") as gateway:
                for number in range(EVENTS):
                    await gateway.append(submitted(f"r{number}"))
            async with member(servers, "coder") as coder:
                await coder.append(completed("large", MAX_PAYLOAD_BYTES))
            async with (
                member(servers, "auditor") as log,
                in_background(Auditor(log, AuditStore(pool), sign).run()),
            ):
                await until_audited(log, pool)


async def test_an_old_store_is_found_by_the_doctor_and_refilled(
    home: Home, settings: Settings, tmp_path: Path
) -> None:
    await audited_events(settings)
    assert [f for f in await log_findings(settings) if not f.ok] == []
    store = home.nats / "store"
    shutil.rmtree(store)
    wrong, objects = (f for f in await log_findings(settings) if not f.ok)
    assert (wrong.check, objects.check) == ("stream", "objects")
    assert "gateway/gateway-1 no. 1 (missing)" in wrong.detail
    assert "swarm recover" in wrong.hint
    done = await recover(settings)
    assert (done.objects, done.gone) == (1, ())
    assert len(done.lost) == done.refilled > EVENTS
    assert [f for f in await log_findings(settings) if not f.ok] == []
    assert (await recover(settings)).was_whole
    assert not Survivors(home).exist


async def test_lost_objects_are_found_by_the_doctor_and_put_back(
    home: Home, settings: Settings
) -> None:
    await audited_events(settings)
    (objects,) = (home.nats / "store").glob("jetstream/*/streams/OBJECTS")
    shutil.rmtree(objects)
    (wrong,) = (f for f in await log_findings(settings) if not f.ok)
    assert wrong.check == "objects"
    assert "in run large" in wrong.detail
    assert "swarm recover" in wrong.hint
    done = await recover(settings)
    assert (done.objects, done.lost, done.refilled) == (1, (), 0)
    assert not done.was_whole
    assert "Objects put back: 1" in lines(done, 1.0)
    assert [f for f in await log_findings(settings) if not f.ok] == []
    assert (await recover(settings)).was_whole


async def test_a_swarm_does_not_start_on_a_stream_that_is_half_filled(
    home: Home, settings: Settings
) -> None:
    await audited_events(settings)
    Survivors(home).save([])
    with pytest.raises(RecoveryUnfinished, match="was interrupted"):
        refuse_unfinished(home)
    assert any(f.check == "recovery" for f in await log_findings(settings) if not f.ok)
    assert (await recover(settings)).interrupted
    refuse_unfinished(home)


async def test_a_home_in_use_is_left_alone(home: Home, settings: Settings) -> None:
    with pytest.raises(NotRunning, match="No swarm has run"):
        await recover(settings)
    assert await log_findings(settings) == []
    async with of_stopped(settings):
        with pytest.raises(HomeInUse, match="Another command works in"):
            await recover(settings)
        (finding,) = [f for f in await log_findings(settings) if not f.ok]
        assert "Another command works in" in finding.detail
    os.close(states.lock(home))
