"""The authority as a member of the swarm: it vouches for keys, and says so in the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from actors.errors import EnrolmentRefused
from actors.member import Domain, Enrolment, as_member, farewell, started
from bus.event import Draft, derive_id
from bus.identity import AUTHORITY_ROLE, Authority, Credential
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import IdentityIssued
from bus.subjects import SYSTEM_RUN
from policies.capabilities import Capabilities

CREDENTIAL_TTL: Final = timedelta(days=30)
"""Until credentials are renewed in place, one lives longer than a swarm stays up."""


class Registrar:
    """Issues credentials to members whose enrolment it granted, and records each.

    A credential is returned only after its announcement is stored: whoever reads an event
    of the new key finds the credential earlier in the log.
    """

    def __init__(
        self, authority: Authority, secret: bytes, log: EventLog, policy: Capabilities
    ) -> None:
        self._authority = authority
        self._secret = secret
        self._log = log
        self._policy = policy

    async def issue(self, enrolment: Enrolment, public_key: str) -> str:
        """Vouch for a key; returns the user JWT.

        Raises:
            EnrolmentRefused: the enrolment was not granted by this authority.
            IdentityError: the public key is not an NKey.
        """
        if not enrolment.is_granted_by(self._secret):
            raise EnrolmentRefused(f"{enrolment.role}/{enrolment.name} was not enrolled here")
        credential = vouch(
            self._authority, self._policy, public_key, role=enrolment.role, name=enrolment.name
        )
        await self._log.append(announcement(credential))
        return credential.jwt


@asynccontextmanager
async def acting_authority(
    authority: Authority, secret: bytes, domain: Domain, name: str
) -> AsyncIterator[Registrar]:
    """Act as the authority, under a key of this process that the log knows.

    Raises:
        BusUnreachable: no connection in time.
    """
    key = AgentKey.generate()
    policy = domain.policy()
    own = vouch(authority, policy, key.public, role=AUTHORITY_ROLE, name=name)
    async with as_member(domain, key, own) as log:
        await log.append(announcement(own))
        await log.append(started(own))
        try:
            yield Registrar(authority, secret, log, policy)
        finally:
            await farewell(log)


def vouch(
    authority: Authority,
    policy: Capabilities,
    public_key: str,
    *,
    role: str,
    name: str,
    ttl: timedelta = CREDENTIAL_TTL,
) -> Credential:
    """A credential with the permissions that the policy gives the role.

    Raises:
        IdentityError: the public key is not an NKey.
    """
    permissions = policy.permissions(role, public_key)
    return authority.issue(public_key, role=role, name=name, permissions=permissions, ttl=ttl)


def announcement(credential: Credential) -> Draft:
    """The event that makes a credential known; its subject ends in the key."""
    payload = IdentityIssued(
        role=credential.role,
        name=credential.name,
        public_key=credential.public_key,
        credential=credential.jwt,
        expires_at=credential.expires_at,
    )
    return Draft(
        run=SYSTEM_RUN,
        payload=payload,
        id=derive_id("identity.issued", credential.public_key),
        suffix=(credential.public_key,),
    )
