"""Joining the swarm: a key made here, a credential for it, a connection, an event log."""

import asyncio
import hashlib
import hmac
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from actors.errors import EnrolmentBarred
from actors.renewal import ended_by, keep_fresh
from bus.connection import open_connection
from bus.errors import SwarmError
from bus.event import Draft, derive_id
from bus.identity import Credential
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import AgentStarted, AgentStopped
from bus.signing import Sender
from bus.subject_keys import KeptKeys
from bus.subjects import SYSTEM_RUN
from bus.trust import TrustStore
from bus.vault import SubjectKeys
from policies.capabilities import Capabilities, inbox_prefix

logger = structlog.get_logger()

FAREWELL_S: Final = 3.0
BARRED_S: Final = 2.0
"""Between two tries of a member that was revoked to get back in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Where the bus is, the root of trust on it, and what is allowed there.

    Attributes:
        nats_url: ``nats://host:port``.
        operator_public_key: of the trust root.
        account_jwt: signed by it; signs credentials.
        workers: roles that take assignments besides those that are built in.
        bundle: the text of a policy bundle; empty for the one that comes with the package.
    """

    nats_url: str
    operator_public_key: str
    account_jwt: str
    workers: tuple[str, ...] = ()
    bundle: str = field(default="", repr=False)

    def policy(self) -> Capabilities:
        """The policy of this domain, the same for every member.

        Raises:
            PolicyNotUsable: it cannot be read, or a worker has the name of another role.
        """
        return Capabilities.of(self.bundle, self.workers)

    def trust(self) -> TrustStore:
        """A trust store that believes this domain's authority only."""
        return TrustStore(self.operator_public_key, self.account_jwt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The right to ask the authority for a credential of one role and name."""

    role: str
    name: str
    proof: str = field(repr=False)

    @classmethod
    def grant(cls, secret: bytes, role: str, name: str) -> "Enrolment":
        """Grant the right; only who holds the authority's secret can."""
        message = f"{role}/{name}".encode()
        return cls(
            role=role, name=name, proof=hmac.new(secret, message, hashlib.sha256).hexdigest()
        )

    def is_granted_by(self, secret: bytes) -> bool:
        """Whether the holder of the secret granted it."""
        return hmac.compare_digest(self.proof, self.grant(secret, self.role, self.name).proof)


Issue = Callable[[Enrolment, str], Awaitable[str]]
"""Asks the authority: (enrolment, public key) to user JWT, once its event is in the log."""

Unlock = Callable[[Enrolment, str, str, bool], Awaitable[bytes | None]]
"""Asks the authority for a person's key: (enrolment, public key, person, whether to make one) to
a box for that public key; None if the person is forgotten, or has no key."""


@asynccontextmanager
async def joined(
    domain: Domain,
    enrolment: Enrolment,
    issue: Issue,
    *,
    unlock: Unlock | None = None,
    deadline_s: float = 30.0,
) -> AsyncIterator[EventLog]:
    """Be a member of the swarm for the length of the block.

    The private key is made here and never leaves; its credential is renewed in time. The
    block's first event says that the agent started; a clean end says so too, with the last
    number of its chain. Who was revoked waits here until it is enrolled again.

    Args:
        domain: where the bus is.
        enrolment: the right to be a member.
        issue: asks for credentials.
        unlock: asks for the keys of people; a member that has none to ask says nothing that
            is personal, and is not told.
        deadline_s: how long to try what has to be tried.

    Raises:
        IdentityError: the authority did not vouch for the key.
        EnrolmentBarred, KeyRetired: from within the block, when the key counts no more.
        BusUnreachable: no connection in time.
    """
    key = AgentKey.generate()

    async def vouched() -> Credential:
        return Credential.parse(await issue(enrolment, key.public))

    async def renew(log: EventLog) -> None:
        await log.renew(await vouched())

    async def ask(subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        box = None if unlock is None else await unlock(enrolment, key.public, subject, to_seal)
        return None if box is None else key.open_box(box)

    credential = await _once_enrolled(vouched)
    keys = None if unlock is None else KeptKeys(ask, deadline_s=deadline_s)
    async with as_member(domain, key, credential, keys=keys, deadline_s=deadline_s) as log:
        await log.append(started(credential))
        try:
            async with ended_by(keep_fresh(log, renew)):
                yield log
        finally:
            await farewell(log)


@asynccontextmanager
async def as_member(
    domain: Domain,
    key: AgentKey,
    credential: Credential,
    *,
    keys: SubjectKeys | None = None,
    deadline_s: float = 30.0,
) -> AsyncIterator[EventLog]:
    """An event log under a credential that is already there; announces nothing.

    Raises:
        BusUnreachable: no connection in time.
    """
    policy = domain.policy()
    inbox = inbox_prefix(key.public)
    async with open_connection(
        domain.nats_url, key, credential, inbox=inbox, deadline_s=deadline_s
    ) as connection:
        sender = Sender(key, credential, policy)
        yield EventLog(connection, domain.trust(), policy, sender, keys=keys)


async def farewell(log: EventLog) -> None:
    """Close the chain of a log's sender. Not being able to is noted: the process ends anyway."""
    if log.connection.refused.is_set():
        logger.warning("member.leaves_without_farewell", reason="the broker does not take its key")
        return
    try:
        async with asyncio.timeout(FAREWELL_S):
            await log.append(stopped(log.sender))
    except (TimeoutError, SwarmError) as error:
        logger.warning("member.leaves_without_farewell", reason=repr(error))


async def _once_enrolled(vouched: Callable[[], Awaitable[Credential]]) -> Credential:
    """The first credential. A process that died of being refused would only come back at once."""
    while True:
        try:
            return await vouched()
        except EnrolmentBarred as error:
            logger.warning("member.waits_for_enrolment", reason=str(error))
            await asyncio.sleep(BARRED_S)


def started(credential: Credential) -> Draft:
    """Says that a process acts under the credential from here on."""
    payload = AgentStarted(
        role=credential.role, name=credential.name, pid=os.getpid(), node=socket.gethostname()
    )
    event_id = derive_id("agent.started", credential.public_key)
    return Draft(run=SYSTEM_RUN, payload=payload, id=event_id)


def stopped(sender: Sender) -> Draft:
    """Says that this is the last event under the sender's key."""
    payload = AgentStopped(
        role=sender.credential.role,
        name=sender.credential.name,
        last_sequence=sender.head.sequence + 1,
    )
    return Draft(run=SYSTEM_RUN, payload=payload, id=derive_id("agent.stopped", sender.key.public))
