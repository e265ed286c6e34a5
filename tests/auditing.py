"""An auditor in the test's own event loop, who may take from its log, and how it comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from nacl.signing import SigningKey

from actors.auditor import Auditor
from bus.connection import Connection
from bus.event import StoredEvent
from bus.identity import LAUNCHER_ROLE
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import LogLost
from bus.provision import provision
from bus.refill import permissions
from bus.subjects import SYSTEM_RUN, subject_for
from cluster.object_recovery import restore_objects
from cluster.recover import Recovered, recover_stream
from cluster.survivors import Survivors
from policies.capabilities import inbox_prefix, queue_name
from storage.audit import AuditStore
from storage.audit_reader import AuditReader
from storage.checkpoint import checkpoint_signer
from storage.objects import AuditObjects
from storage.postgres import Pool
from tests.broker import STORE_BYTES, Broker
from tests.swarming import in_background

ORIGIN = "example.com/audit"
LOG_KEY = SigningKey(bytes(32))
SIGN = checkpoint_signer(ORIGIN, LOG_KEY)
DEADLINE_S = 30


@asynccontextmanager
async def auditing(broker: Broker, pool: Pool) -> AsyncIterator[EventLog]:
    async with (
        broker.joined("auditor", f"auditor-{uuid4().hex[:8]}") as log,
        in_background(Auditor(log, AuditStore(pool), SIGN, check_s=0.1).run()),
    ):
        yield log


async def until_audited(log: EventLog, pool: Pool) -> int:
    """Waits until the audit log has all that the stream has now; the last sequence."""
    last = await log.last_sequence()
    async with asyncio.timeout(DEADLINE_S):
        while (await AuditReader(pool).reach()).stream_sequence < last:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return last


async def alarm(log: EventLog, wanted: Callable[[LogLost], bool]) -> LogLost:
    """The first alarm that is as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        async with aclosing(log.follow(subject_for(SYSTEM_RUN, LogLost.TYPE))) as alarms:
            async for received in alarms:
                if isinstance(received, StoredEvent):
                    payload = received.payload()
                    if isinstance(payload, LogLost) and wanted(payload):
                        return payload
    raise AssertionError("no alarm")


@asynccontextmanager
async def administrator(broker: Broker) -> AsyncIterator[Connection]:
    """Who may do everything with the log."""
    key = AgentKey.generate()
    inbox = inbox_prefix(key.public)
    credential = broker.authority.issue(
        key.public,
        role=LAUNCHER_ROLE,
        name="administrator",
        permissions=permissions(inbox),
        ttl=timedelta(hours=1),
    )
    connection = await Connection.open(broker.url, key, credential, inbox=inbox)
    try:
        yield connection
    finally:
        await connection.close()


def ignore(_: str) -> None:
    """A moment that nothing happens at."""


async def recover(
    broker: Broker, pool: Pool, survivors: Survivors, reached: Callable[[str], None] = ignore
) -> Recovered:
    """As `swarm recover` does, on servers that run."""
    async with administrator(broker) as connection:
        audit, objects = AuditReader(pool), AuditObjects(pool)
        done = await recover_stream(
            connection, audit, objects, survivors, root=broker.authority.root_key, reached=reached
        )
        roles = broker.policy.worker_roles
        await provision(
            connection,
            queues={role: queue_name(role) for role in roles},
            lease_s=1.0,
            max_bytes=STORE_BYTES,
            starts=None if done.starts is None else done.starts.of(roles),
        )
        restored = await restore_objects(connection, objects)
        if survivors.exist:
            survivors.discard()
        return replace(done, objects=restored.objects, gone=restored.gone)
