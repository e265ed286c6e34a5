"""The authority as a member of the swarm: it vouches for keys, and says so in the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from actors.errors import EnrolmentBarred, EnrolmentRefused, KeyRetired
from actors.member import Domain, Enrolment, as_member, farewell, started
from actors.renewal import ended_by, keep_fresh
from bus.custody import SubjectKeyDirectory
from bus.errors import ConsumptionDenied, PublishConflict
from bus.event import Draft, derive_id
from bus.identity import AUTHORITY_ROLE, Authority, Credential
from bus.log import EventLog, Expected
from bus.nkey import AgentKey, box_for
from bus.payloads import IdentityIssued, PolicyAdopted
from bus.received import fetched
from bus.subjects import SYSTEM_RUN, TRUST_RUN, subject_for
from policies.capabilities import Capabilities

CREDENTIAL_TTL: Final = timedelta(hours=1)


class Registrar:
    """Issues credentials to members whose enrolment it granted, and records each.

    A credential is returned only after its announcement is stored: whoever reads an event
    under it finds the credential earlier in the log.
    """

    def __init__(
        self,
        authority: Authority,
        secret: bytes,
        log: EventLog,
        policy: Capabilities,
        *,
        subjects: SubjectKeyDirectory | None = None,
        ttl: timedelta = CREDENTIAL_TTL,
    ) -> None:
        """Take office.

        Args:
            authority: its keys; those of a folder are read again when they were rotated.
            secret: by which enrolments are known.
            log: of a sender of role authority.
            policy: what each role may do.
            subjects: the keys of people; only the authority of the swarm itself has them.
            ttl: life of the credentials.
        """
        self.log = log
        self._authority = authority
        self._secret = secret
        self._policy = policy
        self._subjects = subjects
        self._ttl = ttl

    async def issue(self, enrolment: Enrolment, public_key: str) -> str:
        """Vouch for a key, for the first time or again; returns the user JWT.

        Raises:
            EnrolmentRefused: the enrolment was not granted by this authority.
            EnrolmentBarred: it was taken back.
            KeyRetired: the key was revoked.
            IdentityError: the public key is not an NKey.
        """
        while True:
            self._see_that_it_counts(enrolment)
            credential = self._vouch(public_key, enrolment.role, enrolment.name)
            subject = subject_for(SYSTEM_RUN, IdentityIssued.TYPE, public_key)
            renews = await self.log.last_on(subject) is not None
            await self.log.append(announcement(credential, renews=renews))
            if credential.issuer in self._fresh().ring.signing:
                return credential.jwt
            # The rotation may stand before the announcement, which then vouches for nobody.

    async def unlock(
        self,
        enrolment: Enrolment,
        public_key: str,
        subject: str,
        to_seal: bool,  # noqa: FBT001 - of type Unlock
    ) -> bytes | None:
        """A person's key, in a box that only the holder of the public key can open.

        None if the person is forgotten; and where nothing is to be sealed, if there is no key.

        Raises:
            EnrolmentRefused: the enrolment was not granted by this authority.
            EnrolmentBarred: it was taken back.
            KeyRetired: the public key was revoked.
            ConsumptionDenied: the policy does not give the role any such key.
            IdentityError: the public key is not an NKey, or the person's cannot be read.
        """
        self._see_that_it_counts(enrolment)
        if public_key in self._authority.ring.revoked:
            raise KeyRetired(f"{public_key} was revoked")
        if self._subjects is None or not self._policy.may_unseal(enrolment.role):
            raise ConsumptionDenied(f"role {enrolment.role!r} is not given the keys of people")
        find = self._subjects.find_or_make if to_seal else self._subjects.find
        found = await asyncio.to_thread(find, subject)
        return box_for(public_key, found) if isinstance(found, bytes) else None

    async def renew_own(self, log: EventLog) -> None:
        """Go on under another credential; the broker may take the one before no more.

        So it is announced under the new one, unlike a member's: the authority says it itself.

        Raises:
            KeyRetired: its key was revoked.
            BusUnreachable, PublishError: try again.
        """
        own = log.sender.credential
        credential = self._vouch(own.public_key, own.role, own.name)
        await log.renew(credential)
        await log.append(announcement(credential, renews=True))

    def _see_that_it_counts(self, enrolment: Enrolment) -> None:
        if not enrolment.is_granted_by(self._secret):
            raise EnrolmentRefused(f"{enrolment.role}/{enrolment.name} was not enrolled here")
        member = f"{enrolment.role}/{enrolment.name}"
        if member in self._fresh().ring.barred:
            raise EnrolmentBarred(f"{member} was revoked and not enrolled again")

    def _vouch(self, public_key: str, role: str, name: str) -> Credential:
        authority = self._fresh()
        if public_key in authority.ring.revoked:
            raise KeyRetired(f"{public_key} was revoked: {role}/{name} needs a new key")
        return vouch(authority, self._policy, public_key, role=role, name=name, ttl=self._ttl)

    def _fresh(self) -> Authority:
        self._authority = self._authority.fresh()
        return self._authority


@asynccontextmanager
async def acting_authority(
    authority: Authority,
    secret: bytes,
    domain: Domain,
    name: str,
    *,
    subjects: SubjectKeyDirectory | None = None,
    ttl: timedelta = CREDENTIAL_TTL,
) -> AsyncIterator[Registrar]:
    """Act as the authority, under a key of this process that the log knows.

    Raises:
        BusUnreachable: no connection in time.
    """
    key = AgentKey.generate()
    policy = domain.policy()
    own = vouch(authority, policy, key.public, role=AUTHORITY_ROLE, name=name, ttl=ttl)
    async with as_member(domain, key, own) as log:
        await log.append(announcement(own))
        await adopt(log, policy)
        await log.append(started(own))
        registrar = Registrar(authority, secret, log, policy, subjects=subjects, ttl=ttl)
        try:
            async with ended_by(keep_fresh(log, registrar.renew_own)):
                yield registrar
        finally:
            await farewell(log)


async def adopt(log: EventLog, policy: Capabilities) -> None:
    """Put a policy in force, unless it is; nothing is permitted before the first one.

    Raises:
        PublishError: it could not be stored.
        BusUnreachable: the log does not answer.
    """
    subject = subject_for(TRUST_RUN, PolicyAdopted.TYPE)
    while True:
        last = await log.connection.last_message(subject)
        in_force = await log.policy_in_force()
        if in_force is not None and in_force.digest == policy.digest:
            return
        place = 0 if last is None else fetched(last).stream_sequence
        draft = Draft(
            run=TRUST_RUN,
            payload=PolicyAdopted(digest=policy.digest, document=policy.document),
            id=derive_id("policy.adopted", policy.digest, str(place)),
        )
        with suppress(PublishConflict):
            await log.append(
                draft, expected=Expected(subject_filter=subject, stream_sequence=place)
            )


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


def announcement(credential: Credential, *, renews: bool = False) -> Draft:
    """The event that makes a credential known; its subject ends in the key.

    Args:
        credential: signed by the authority.
        renews: whether the key has had one before.
    """
    payload = IdentityIssued(
        role=credential.role,
        name=credential.name,
        public_key=credential.public_key,
        credential=credential.jwt,
        expires_at=credential.expires_at,
        renews=renews,
    )
    return Draft(
        run=SYSTEM_RUN,
        payload=payload,
        id=derive_id("identity.issued", credential.jwt),
        suffix=(credential.public_key,),
    )
