"""The Ray actors that serve the whole swarm: authority, coordinator, auditor.

The plain classes decide; what stands here joins them to the bus and gives them to Ray.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import ray
from nacl.signing import SigningKey

from actors.auditor import Auditor
from actors.authority import CREDENTIAL_TTL, Registrar, acting_authority
from actors.coordinator import Coordinator
from actors.member import Enrolment, joined
from actors.rotation import keep_settled
from actors.shell import MemberActor, Membership, Ready, issue, unlock
from actors.witnesses import witnessed
from bus.custody import FOLDER, SubjectKeyDirectory
from bus.identity import Authority
from bus.keyring import KeyDirectory
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.cosignature import WitnessAddress
from storage.postgres import open_pool
from storage.witnessed import WitnessStore


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityDesk:
    """Where the authority's keys are: its seeds, and the secret that grants enrolments."""

    keys: Path
    secret_file: Path
    credential_ttl_s: float = CREDENTIAL_TTL.total_seconds()
    """Life of the credentials that it issues, its own among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDesk:
    """Where the auditor writes, and the file with the seed, in hex, that signs checkpoints."""

    database_url: str = field(repr=False)
    key_file: Path
    origin: str
    check_s: float
    """Between two looks at whether the stream still holds what was audited."""
    witnesses: tuple[WitnessAddress, ...] = ()
    """Who cosigns the checkpoints."""


class AuthorityActor(MemberActor):
    """Vouches for the keys of members that the launcher enrolled."""

    def __init__(self, membership: Membership, desk: AuthorityDesk) -> None:
        self._desk = desk
        self._registrar: asyncio.Future[Registrar] = asyncio.get_running_loop().create_future()
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Act as the authority until cancelled."""
        authority = Authority.load(self._desk.keys)
        secret = self._desk.secret_file.read_bytes().strip()
        name = self.membership.enrolment.name
        domain = self.membership.domain
        ttl = timedelta(seconds=self._desk.credential_ttl_s)
        subjects = SubjectKeyDirectory(self._desk.keys / FOLDER)
        async with acting_authority(
            authority, secret, domain, name, subjects=subjects, ttl=ttl
        ) as registrar:
            self._registrar.set_result(registrar)
            ready()
            await keep_settled(KeyDirectory(self._desk.keys), registrar.log, domain.nats_url)

    @ray.method
    async def issue(self, enrolment: Enrolment, public_key: str) -> str:
        """Vouch for a key; returns the user JWT once the log knows of it."""
        registrar = await self._registrar
        return await registrar.issue(enrolment, public_key)

    @ray.method
    async def unlock(
        self,
        enrolment: Enrolment,
        public_key: str,
        subject: str,
        to_seal: bool,  # noqa: FBT001 - of type Unlock
    ) -> bytes | None:
        """A person's key, in a box for the public key; None if there is none."""
        registrar = await self._registrar
        return await registrar.unlock(enrolment, public_key, subject, to_seal)


class CoordinatorActor(MemberActor):
    """Drives runs to their end."""

    def __init__(self, membership: Membership, window: int | None = None) -> None:
        self._window = window
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Coordinate until cancelled."""
        domain, enrolment = self.membership.domain, self.membership.enrolment
        async with joined(domain, enrolment, issue, unlock=unlock) as log:
            ready()
            await Coordinator(log, window=self._window).run()


class AuditorActor(MemberActor):
    """Writes the audit log."""

    def __init__(self, membership: Membership, desk: AuditDesk) -> None:
        self._desk = desk
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Audit until cancelled."""
        sign = checkpoint_signer(
            self._desk.origin, SigningKey(bytes.fromhex(self._desk.key_file.read_text()))
        )
        async with (
            open_pool(self._desk.database_url) as pool,
            joined(self.membership.domain, self.membership.enrolment, issue) as log,
            witnessed(WitnessStore(pool), self._desk.witnesses, log.append),
        ):
            store = AuditStore(pool)
            ready()
            await Auditor(log, store, sign, check_s=self._desk.check_s).run()
