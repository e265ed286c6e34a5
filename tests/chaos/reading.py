"""Reading the log and the audit log of a swarm, as anybody may who may read."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields

import asyncpg
from nacl.signing import SigningKey

from actors.authority import vouch
from actors.member import Domain, as_member
from bus.custody import FOLDER
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.received import Received
from bus.subject_keys import keys_in
from bus.subjects import ALL_EVENTS
from cluster import state as states
from cluster.assembly import authority
from cluster.home import Home
from cluster.parts.postgres import Postgres
from cluster.people import audit_key_file
from policies.capabilities import Capabilities
from storage.audit_reader import AuditReader
from storage.checkpoint import parse_checkpoint
from storage.note import VerifierKey
from storage.postgres import open_pool
from tests.chaos.checker import Audit, AuditRow, Violation, check

_COLUMNS = ", ".join(column.name for column in fields(AuditRow))
_PAUSE_S = 0.5
_UNSETTLED = ("one end", "one result", "audit")
"""What may become true a moment later: the coordinator and the auditor follow the log."""


@asynccontextmanager
async def reader(home: Home) -> AsyncIterator[EventLog]:
    """The log of the swarm in this home, for an identity that says nothing."""
    root, state = authority(home), states.load(home)
    assert state is not None
    domain = Domain(
        nats_url=state.addresses.nats,
        operator_public_key=root.operator_public_key,
        account_jwt=root.account_jwt,
    )
    key = AgentKey.generate()
    own = vouch(root, Capabilities.shipped(), key.public, role="auditor", name="chaos-reader")
    keys = keys_in(home.keys / FOLDER)
    async with as_member(domain, key, own, keys=keys) as log:
        yield log


async def read_log(home: Home) -> list[Received]:
    """Everything that the stream holds, verified."""
    async with reader(home) as log, aclosing(log.read(ALL_EVENTS)) as events:
        return [received async for received in events]


async def read_audit(home: Home) -> Audit:
    """Everything that the audit log holds; its checkpoint's signature is checked here."""
    state = states.load(home)
    assert state is not None
    port = int(state.addresses.postgres.rpartition(":")[2].split("/")[0])
    url = Postgres(home=home, environment={}).url(port)
    async with open_pool(url, max_size=1) as pool:
        checkpoint = await AuditReader(pool).checkpoint()
        rows: list[asyncpg.Record] = await pool.fetch(
            f"select {_COLUMNS} from audit_event order by leaf_index"  # noqa: S608
        )
    assert checkpoint is not None
    seed = SigningKey(bytes.fromhex(audit_key_file(home).read_text()))
    signed = parse_checkpoint(checkpoint.note)
    key = VerifierKey(name=signed.checkpoint.origin, public_key=seed.verify_key.encode())
    verified = signed.verify(key)
    return Audit(
        rows=[AuditRow(**dict(row)) for row in rows], size=verified.size, root=verified.root
    )


async def judge(
    home: Home, accepted: Collection[str], *, deadline_s: float
) -> tuple[list[Received], tuple[Violation, ...]]:
    """The log and what is wrong with it, once nothing of it can change by itself any more.

    Refusals and rows follow the log by moments: what could still be on its way is waited for,
    up to the deadline.
    """
    until = time.monotonic() + deadline_s
    while True:
        audit = await read_audit(home)
        received = await read_log(home)
        found = check(received, accepted, audit)
        hopeful = [violation for violation in found if violation.rule in _UNSETTLED]
        if not hopeful or time.monotonic() > until:
            return received, found
        await asyncio.sleep(_PAUSE_S)
