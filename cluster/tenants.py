"""A tenant's own access to the broker: its account, and a credential that is put on record."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import uuid4

from actors.authority import announcement
from actors.rotation import decide, tenant_added
from bus.claims import tell_broker
from bus.connection import Connection
from bus.errors import BusUnreachable
from bus.identity import Authority, Credential
from bus.keyring import KeyDirectory
from bus.nkey import AgentKey
from bus.subjects import DEFAULT_TENANT, is_tenant, tenant_filter
from bus.tenants import CONSUMERS, tenant_inbox
from cluster import state as states
from cluster.errors import UnknownTenant
from cluster.log_access import acting, domain_in
from cluster.settings import Settings

BROKER_S: Final = 45.0
"""The embedded broker is started anew for a tenant that it has not heard of."""
RETRY_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantAccess:
    """What a program of a tenant connects with.

    Attributes:
        consumers: the names that its consumers may have.
        inbox: the prefix that its inboxes must have.
        subjects: what it may read.
    """

    credential: Credential
    key: AgentKey = field(repr=False)
    consumers: tuple[str, ...]
    inbox: str
    subjects: str


async def tenant_credential(settings: Settings, tenant: str, *, ttl: timedelta) -> TenantAccess:
    """Make a credential that reads a tenant's runs; the broker takes it when this returns.

    Raises:
        NotRunning: there is no swarm.
        UnknownTenant: that cannot be one, or is the default one, which has no account.
        IdentityError: the keys cannot be read or written.
        BusUnreachable: the broker does not take the account in time.
    """
    home = settings.located_home()
    domain = domain_in(home, states.load_running(home))
    if not is_tenant(tenant) or tenant == DEFAULT_TENANT:
        raise UnknownTenant(f"{tenant[:64]!r} has no account of its own.")
    directory = KeyDirectory(home.keys)
    decide(directory, tenant_added(tenant))
    access = access_of(Authority.load(home.keys), tenant, ttl=ttl)
    await _once_the_broker_takes_it(domain.nats_url, directory, tenant, access)
    async with acting(home, domain) as log:
        await log.append(announcement(access.credential))
    return access


def access_of(authority: Authority, tenant: str, *, ttl: timedelta) -> TenantAccess:
    """A new key with its credential.

    Raises:
        SubjectMismatch: the tenant has no partition of its own.
    """
    key, name = AgentKey.generate(), f"{tenant}-{uuid4().hex[:8]}"
    consumers = tuple(f"{name}-{number}" for number in range(1, CONSUMERS + 1))
    credential = authority.issue_for_tenant(
        key.public, tenant, name=name, consumers=consumers, ttl=ttl
    )
    return TenantAccess(
        credential=credential,
        key=key,
        consumers=consumers,
        inbox=tenant_inbox(tenant, key.public),
        subjects=tenant_filter(tenant),
    )


async def _once_the_broker_takes_it(
    nats_url: str, directory: KeyDirectory, tenant: str, access: TenantAccess
) -> None:
    """Tell the broker, which may be about to be started anew, until it lets the key in."""
    until = time.monotonic() + BROKER_S
    while True:
        try:
            await tell_broker(nats_url, Authority.load(directory.path), tenant=tenant)
            connection = await Connection.open(
                nats_url, access.key, access.credential, inbox=access.inbox
            )
        except BusUnreachable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY_S)
        else:
            return await connection.close()
