"""`swarm audit verify` on a home whose swarm is stopped, with its own Postgres."""

import pytest
from nacl.signing import SigningKey

from cluster.audit_log import verify_log
from cluster.errors import NotRunning
from cluster.home import Home, open_home
from cluster.log_key import log_origin, log_verifier_key
from cluster.log_servers import of_stopped
from cluster.people import audit_key_file
from cluster.settings import Settings
from storage.audit_reader import AuditReader
from storage.checkpoint import checkpoint_signer
from storage.errors import BadCheckpoint
from storage.postgres import open_pool
from tests.integration.cluster.conftest import Configure
from tests.integration.cluster.test_recovery import EVENTS, audited_events

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def settings(home: Home, configure: Configure) -> Settings:
    return configure(home, jetstream_max_bytes=64 << 20)


async def test_a_stopped_swarms_log_is_verified_and_a_changed_row_is_named(
    home: Home, settings: Settings
) -> None:
    with pytest.raises(NotRunning, match="No swarm has run"):
        await verify_log(settings)
    open_home(home.root)
    log_verifier_key(home)
    key = SigningKey(bytes.fromhex(audit_key_file(home).read_text()))
    await audited_events(settings, checkpoint_signer(log_origin(home), key))
    done = await verify_log(settings)
    assert done.finding is None
    assert done.events > EVENTS
    async with of_stopped(settings) as servers, open_pool(servers.database_url) as pool:
        kept = await AuditReader(pool).checkpoint()
        assert kept is not None
        await pool.execute("alter table audit_event disable trigger all")
        await pool.execute("update audit_event set data = 'x' where leaf_index = 9")
        changed = await pool.fetchval(
            "select stream_sequence from audit_event where leaf_index = 9"
        )
    found = (await verify_log(settings, kept.note)).finding
    assert found is not None
    assert found.stream_sequence == changed
    stranger = checkpoint_signer("example.com/other", key)(kept.size, kept.root)
    with pytest.raises(BadCheckpoint, match="is of example.com/other"):
        await verify_log(settings, stranger)
    forged = checkpoint_signer(log_origin(home), SigningKey.generate())
    with pytest.raises(BadCheckpoint, match="no signature of"):
        await verify_log(settings, forged(kept.size, kept.root))
