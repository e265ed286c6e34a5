"""The log of a running swarm for a process of its machine: to speak as the authority, or read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from actors.authority import acting_authority, vouch
from actors.member import Domain
from bus.connection import open_connection
from bus.errors import BusUnreachable
from bus.identity import AUTHORITY_ROLE, Authority
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.signing import Sender
from cluster.home import Home
from cluster.log_servers import INBOX, READER_ROLE
from cluster.people import enrolment_secret_file
from cluster.state import Phase, State


def domain_in(home: Home, state: State) -> Domain:
    """Where the bus of a running swarm is, and its root of trust.

    Raises:
        BusUnreachable: it is starting, and has no bus yet.
        IdentityError: the keys cannot be read.
    """
    if state.phase is not Phase.READY and not state.addresses.nats:
        raise BusUnreachable(f"The swarm in {home.root} is not ready: it is {state.phase}.")
    return domain_of(state, Authority.load(home.keys))


def domain_of(state: State, root: Authority) -> Domain:
    """Where the bus of a running swarm is, and which policy credentials are made by."""
    return Domain(
        nats_url=state.addresses.nats,
        operator_public_key=root.operator_public_key,
        account_jwt=root.account_jwt,
        workers=state.workers,
        bundle=state.bundle,
    )


@asynccontextmanager
async def acting(home: Home, domain: Domain) -> AsyncIterator[EventLog]:
    """The log, under a key of this process that may speak for the authority."""
    secret = enrolment_secret_file(home).read_bytes().strip()
    name = f"{AUTHORITY_ROLE}-{uuid4().hex[:8]}"
    authority = Authority.load(home.keys)
    async with acting_authority(authority, secret, domain, name) as registrar:
        yield registrar.log


@asynccontextmanager
async def observing(home: Home, domain: Domain) -> AsyncIterator[EventLog]:
    """The log, under a key of this process that may read everything and say nothing."""
    key, policy = AgentKey.generate(), domain.policy()
    own = vouch(Authority.load(home.keys), policy, key.public, role=READER_ROLE, name="keys")
    async with open_connection(domain.nats_url, key, own, inbox=INBOX) as connection:
        yield EventLog(connection, domain.trust(), policy, Sender(key, own, policy))
