"""Who a key belongs to: the credential, and the authority that issues it.

NATS operator mode: an operator signs accounts, the members' account signs users. A
user JWT over an agent's public key is at once what the broker enforces and what a
receiver verifies an event's sender against.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from pydantic import JsonValue, TypeAdapter

from bus import jwt
from bus.accounts import Account, log_account, system_account
from bus.errors import IdentityError
from bus.keyring import KeyDirectory
from bus.nkey import ACCOUNT, OPERATOR, AgentKey, verify_key
from bus.ring import Ring, first_ring
from bus.tenants import tenant_account, tenant_inbox, tenant_key, tenant_requests

AUTHORITY_ROLE: Final = "authority"
LAUNCHER_ROLE: Final = "launcher"
"""Provisions the log: the only role whose credentials are of the log's account."""
TENANT_ROLE: Final = "tenant"
"""Reads what is said in the runs of one tenant; credentials are of that tenant's account."""
LOG_TAG: Final = "log"
"""Marks a root's word over the key that signs a log's checkpoints."""
_TAGS = TypeAdapter(list[str])
_NATS = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Subjects, with NATS wildcards, that a connection may publish and subscribe to."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    deny_publish: Sequence[str] = ()

    def as_claims(self) -> dict[str, JsonValue]:
        """The form of a NATS user JWT; an empty list denies all instead of allowing all."""
        return {"pub": _allow(self.publish, self.deny_publish), "sub": _allow(self.subscribe)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A verified user JWT: the authority says that this key is this agent, until then."""

    jwt: str
    public_key: str
    issuer: str
    account: str
    role: str
    name: str
    issued_at: datetime
    expires_at: datetime

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read a credential and check its own signature, not yet its issuer.

        Raises:
            IdentityError: it is malformed, or lacks a claim.
        """
        claims = jwt.decode(token)
        try:
            nats = _NATS.validate_python(claims["nats"])
            tags = _TAGS.validate_python(nats["tags"])
            role = next(tag.removeprefix("role:") for tag in tags if tag.startswith("role:"))
            subject, issuer, name = str(claims["sub"]), str(claims["iss"]), str(claims["name"])
            issued, expires = (datetime.fromtimestamp(_int(claims[k]), UTC) for k in ("iat", "exp"))
        except (KeyError, StopIteration, ValueError, OverflowError, OSError) as error:
            raise IdentityError("the credential lacks a claim that this system needs") from error
        verify_key(subject)
        return cls(
            jwt=token,
            public_key=subject,
            issuer=issuer,
            account=str(nats.get("issuer_account", issuer)),
            role=role,
            name=name,
            issued_at=issued,
            expires_at=expires,
        )

    def valid_at(self, moment: datetime) -> bool:
        """Whether the moment lies in the credential's life, with 5 s for clocks that differ."""
        skew = timedelta(seconds=5)
        return self.issued_at - skew <= moment < self.expires_at + skew


class Authority:
    """Holds the keys of a ring and issues credentials.

    The first account and its operator are where the chain of trust begins; what followed
    them is told by the log.
    """

    def __init__(self, ring: Ring, keys: Mapping[str, AgentKey]) -> None:
        """Take the private halves of the ring's keys, by their public ones."""
        self.ring = ring
        self.keys = dict(keys)
        self.directory: KeyDirectory | None = None
        self._as_of = 0
        operator = self.keys[ring.operator]
        self.operator_jwt = jwt.encode(
            jwt.operator_claims(operator.public, ring.system, 0), operator
        )
        self.log_account_jwt = log_account(ring.log, operator)
        self.system_account_jwt = system_account(ring.system, operator)

    @property
    def operator_public_key(self) -> str:
        """The first root of trust: all that a verifier of the whole log needs beforehand."""
        return self.ring.first.operator

    @property
    def root_key(self) -> AgentKey:
        """The operator in force."""
        return self.keys[self.ring.operator]

    @property
    def account_jwt(self) -> str:
        """The members' account as the first root vouched for it."""
        return self.ring.first.jwt

    @property
    def account_jwt_in_force(self) -> str:
        """The members' account as the broker must know it now."""
        return self.ring.account_jwt

    @property
    def account_public_key(self) -> str:
        """The account that all agents belong to."""
        return self.ring.account

    @property
    def log_account_public_key(self) -> str:
        """The account that holds the log; only who provisions it connects there."""
        return self.ring.log

    @property
    def system_account_public_key(self) -> str:
        """The broker's own account; who connects there tells it of other accounts."""
        return self.ring.system

    @property
    def tenant_accounts(self) -> dict[str, str]:
        """The JWTs of all tenants' accounts by public key, as the broker must know them."""
        return dict(self.tenant_account(tenant) for tenant in sorted(self.ring.tenants))

    def tenant_account(self, tenant: str) -> tuple[str, str]:
        """The public key and the JWT of a tenant's account.

        Raises:
            SubjectMismatch: the tenant has no partition of its own.
        """
        ring = self.ring
        account = tenant_key(self.keys[ring.log], tenant).public
        token = tenant_account(
            account, self.root_key, log=ring.log, tenant=tenant, revoked=ring.revoked,
            issued_at=Account.parse(ring.account_jwt).issued_at,
        )  # fmt: skip
        return account, token

    @classmethod
    def create(cls) -> Self:
        """Make new keys. The account's own signs nothing, so its private half is not kept."""
        operator = AgentKey.generate(OPERATOR)
        signing, system, log = (AgentKey.generate(ACCOUNT) for _ in range(3))
        account = AgentKey.generate(ACCOUNT).public
        ring = first_ring(
            operator, account=account, signing=signing.public, system=system.public, log=log.public
        )
        return cls(ring, {key.public: key for key in (operator, signing, system, log)})

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the keys that `save` wrote, as they were last rotated.

        Raises:
            IdentityError: a file is missing or not a seed; the error names the file.
        """
        kept = KeyDirectory(directory)
        as_of = kept.changed_at()
        authority = cls(*kept.load())
        authority.directory, authority._as_of = kept, as_of
        return authority

    def fresh(self) -> Self:
        """The keys as they are now: read again where somebody has rotated them meanwhile.

        Raises:
            IdentityError: they cannot be read.
        """
        if self.directory is None or self.directory.changed_at() == self._as_of:
            return self
        return self.load(self.directory.path)

    def save(self, directory: Path) -> None:
        """Write the keys, one file of mode 0600 each. An existing file is never replaced.

        Raises:
            IdentityError: a file exists or cannot be written.
        """
        KeyDirectory(directory).create(self.ring, self.keys)

    def vouch_for_log(self, name: str, verifier_key: str) -> str:
        """The root's word that a key signs the checkpoints of a log; see `vouch_for_log`."""
        return vouch_for_log(self.keys[self.ring.operator], name, verifier_key)

    def issue(
        self, public_key: str, *, role: str, name: str, permissions: Permissions, ttl: timedelta
    ) -> Credential:
        """Vouch for a key: as a member's, or as one that may provision the log.

        Args:
            public_key: the agent's public NKey (``U...``).
            role: what the agent is; becomes the tag ``role:<role>``. The credential of a
                launcher is of the log's account: receivers do not take its events.
            name: unique among the agents of a role.
            permissions: what the broker lets the connection do.
            ttl: life of the credential, from now.

        Raises:
            IdentityError: the public key is not an NKey.
        """
        ring = self.ring
        account, signer = (ring.account, ring.issuing)
        if role == LAUNCHER_ROLE:
            account = signer = ring.log
        return self._sign(
            public_key, role=role, name=name, permissions=permissions, ttl=ttl, account=account,
            signer=self.keys[signer],
        )  # fmt: skip

    def issue_for_broker(
        self, public_key: str, *, permissions: Permissions, ttl: timedelta
    ) -> Credential:
        """Let a key connect to the broker's own account, where it is told of accounts."""
        system = self.ring.system
        return self._sign(
            public_key, role=LAUNCHER_ROLE, name="keys", permissions=permissions, ttl=ttl,
            account=system, signer=self.keys[system],
        )  # fmt: skip

    def issue_for_tenant(
        self, public_key: str, tenant: str, *, name: str, consumers: Sequence[str], ttl: timedelta
    ) -> Credential:
        """Let a key read what is said in a tenant's runs; nobody takes events of it.

        Args:
            public_key: of the connection.
            tenant: whose runs.
            name: for people.
            consumers: the names under which it may have consumers.
            ttl: life of the credential, from now.

        Raises:
            IdentityError: the public key is not an NKey.
            SubjectMismatch: the tenant has no partition of its own.
        """
        permissions = Permissions(
            publish=tenant_requests(tenant, consumers),
            subscribe=(f"{tenant_inbox(tenant, public_key)}.>",),
        )
        signer = tenant_key(self.keys[self.ring.log], tenant)
        return self._sign(
            public_key, role=TENANT_ROLE, name=name, permissions=permissions, ttl=ttl,
            account=signer.public, signer=signer,
        )  # fmt: skip

    @staticmethod
    def _sign(
        public_key: str,
        *,
        role: str,
        name: str,
        permissions: Permissions,
        ttl: timedelta,
        account: str,
        signer: AgentKey,
    ) -> Credential:
        verify_key(public_key)
        now = datetime.now(UTC)
        nats: jwt.Claims = {
            "type": "user",
            "version": 2,
            "tags": [f"role:{role}"],
            **permissions.as_claims(),
            **dict.fromkeys(("subs", "data", "payload"), -1),
        }
        if signer.public != account:
            nats["issuer_account"] = account
        claims: jwt.Claims = {
            "name": name,
            "sub": public_key,
            "iat": int(now.timestamp()),
            "exp": int((now + ttl).timestamp()),
            "nats": nats,
        }
        return Credential.parse(jwt.encode(claims, signer))


def vouch_for_log(root: AgentKey, name: str, verifier_key: str) -> str:
    """A root's word that a key signs the checkpoints of a log.

    Args:
        root: the operator's key.
        name: of the log, as in its checkpoints.
        verifier_key: in the text form of C2SP signed notes.
    """
    claims: jwt.Claims = {
        "name": name,
        "sub": verifier_key,
        "iat": int(datetime.now(UTC).timestamp()),
        "nats": {"type": "generic", "version": 2, "tags": [LOG_TAG]},
    }
    return jwt.encode(claims, root)


def credentials_file(credential: Credential, key: AgentKey) -> str:
    """A NATS ``.creds`` file: the JWT and the seed, in the form every NATS client reads."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{credential.jwt}\n------END NATS USER JWT------\n\n"
        "This file holds a private key: keep it secret.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.export_seed()}\n------END USER NKEY SEED------\n"
    )


def _allow(subjects: Sequence[str], denied: Sequence[str] = ()) -> JsonValue:
    if not subjects:
        return {"deny": [">"]}
    return {"allow": list(subjects), "deny": list(denied)} if denied else {"allow": list(subjects)}


def _int(value: JsonValue) -> int:
    if not isinstance(value, int):
        raise IdentityError(f"{json.dumps(value)[:40]} is not a time in seconds")
    return value
