"""Who a key belongs to: the credential, and the authority that issues it.

NATS operator mode: an operator signs accounts, the members' account signs users. A
user JWT over an agent's public key is at once what the broker enforces and what a
receiver verifies an event's sender against.

The log is in an account of its own. The broker does not check the subject that a
request asks to be answered on, and answers under its own name: were the log in the
members' account, an answer could be sent to ``$JS.API.STREAM.DELETE``. An answer that
crosses to another account only reaches subscribers there (docs/adr/0007).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from pydantic import JsonValue, TypeAdapter

from bus import jwt
from bus.errors import IdentityError
from bus.nkey import ACCOUNT, OPERATOR, AgentKey, verify_key
from bus.reference import ALL_OBJECTS, OBJECTS
from bus.subjects import ALL_EVENTS, STREAM

AUTHORITY_ROLE: Final = "authority"
LAUNCHER_ROLE: Final = "launcher"
"""Provisions the log: the only role whose credentials are of the log's account."""
LOG_TAG: Final = "log"
"""Marks a root's word over the key that signs a log's checkpoints."""
_SEED_FILES: Final = ("operator", "account", "system", "log")
_ANSWERED_ONCE: Final = (
    ALL_EVENTS,
    ALL_OBJECTS,
    f"$JS.API.DIRECT.GET.{OBJECTS}.{ALL_OBJECTS}",
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    f"$JS.API.STREAM.INFO.{STREAM}",
    f"$JS.API.CONSUMER.CREATE.{STREAM}.>",
    f"$JS.API.CONSUMER.INFO.{STREAM}.>",
    f"$JS.ACK.{STREAM}.>",
    f"$JS.FC.{STREAM}.>",
)
_ANSWERED_MANY_TIMES: Final = (
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.>",
    f"$JS.API.DIRECT.GET.{STREAM}",
    f"$JS.API.DIRECT.GET.{STREAM}.>",
)
_PUSHED: Final = "_INBOX.>"
"""Where consumers may push to, across the accounts: what a plain NATS client listens on."""
_TAGS = TypeAdapter(list[str])


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
            nats = claims["nats"]
            tags = _TAGS.validate_python(nats["tags"] if isinstance(nats, dict) else None)
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
    """Holds the operator's and the accounts' keys and issues credentials."""

    def __init__(
        self, operator: AgentKey, account: AgentKey, system: AgentKey, log: AgentKey
    ) -> None:
        self._operator, self._account, self._system, self._log = operator, account, system, log
        self.operator_jwt = jwt.encode(
            jwt.operator_claims(operator.public, system.public, 0), operator
        )
        self.account_jwt = jwt.encode(
            jwt.account_claims(
                account.public, "swarm", 0, jetstream=False, imports=_imports(log.public)
            ),
            operator,
        )
        self.log_account_jwt = jwt.encode(
            jwt.account_claims(log.public, "log", 0, jetstream=True, exports=_exports()), operator
        )
        self.system_account_jwt = jwt.encode(
            jwt.account_claims(system.public, "system", 0, jetstream=False), operator
        )

    @property
    def operator_public_key(self) -> str:
        """The root of trust: all that a verifier needs to know beforehand."""
        return self._operator.public

    @property
    def account_public_key(self) -> str:
        """The account that all agents belong to, and that vouches for them."""
        return self._account.public

    @property
    def log_account_public_key(self) -> str:
        """The account that holds the log; only who provisions it connects there."""
        return self._log.public

    @property
    def system_account_public_key(self) -> str:
        """The broker's own account; nobody connects to it."""
        return self._system.public

    @classmethod
    def create(cls) -> Self:
        """Make new keys."""
        return cls(AgentKey.generate(OPERATOR), *(AgentKey.generate(ACCOUNT) for _ in range(3)))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the keys that `save` wrote.

        Raises:
            IdentityError: a file is missing or not a seed; the error names the file.
        """
        if (directory / "account.seed").exists() and not (directory / "log.seed").exists():
            raise IdentityError(
                f"there is no log key at {directory / 'log.seed'}: either it was lost, or an "
                "earlier version made these keys, and a new SWARM_HOME is needed"
            )
        keys = []
        for name in _SEED_FILES:
            path = directory / f"{name}.seed"
            try:
                keys.append(AgentKey.from_seed(path.read_text()))
            except (OSError, IdentityError) as error:
                raise IdentityError(f"cannot read the {name} key from {path}: {error}") from error
        return cls(*keys)

    def save(self, directory: Path) -> None:
        """Write the keys, one file of mode 0600 each. An existing file is never replaced.

        Raises:
            IdentityError: a file exists or cannot be written.
        """
        keys = (self._operator, self._account, self._system, self._log)
        for name, key in zip(_SEED_FILES, keys, strict=True):
            path = directory / f"{name}.seed"
            try:
                path.touch(mode=0o600, exist_ok=False)
                path.write_text(key.export_seed() + "\n")
            except OSError as error:
                raise IdentityError(f"cannot write the {name} key to {path}: {error}") from error

    def vouch_for_log(self, name: str, verifier_key: str) -> str:
        """The root's word that a key signs the checkpoints of a log; see `vouch_for_log`."""
        return vouch_for_log(self._operator, name, verifier_key)

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
        verify_key(public_key)
        now = datetime.now(UTC)
        claims: jwt.Claims = {
            "name": name,
            "sub": public_key,
            "iat": int(now.timestamp()),
            "exp": int((now + ttl).timestamp()),
            "nats": {
                "type": "user",
                "version": 2,
                "tags": [f"role:{role}"],
                **permissions.as_claims(),
                **dict.fromkeys(("subs", "data", "payload"), -1),
            },
        }
        issuer = self._log if role == LAUNCHER_ROLE else self._account
        return Credential.parse(jwt.encode(claims, issuer))


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


def issuer_of(account_jwt: str, operator_public_key: str) -> str:
    """The account key that an operator vouches for.

    Raises:
        IdentityError: another operator signed the account.
    """
    claims = jwt.decode(account_jwt)
    if claims["iss"] != operator_public_key:
        raise IdentityError("the account is not signed by the operator of this trust domain")
    return str(claims["sub"])


def _exports() -> list[jwt.Claims]:
    return [
        jwt.stream_export(_PUSHED),
        *(jwt.service_export(subject, answers="Singleton") for subject in _ANSWERED_ONCE),
        *(jwt.service_export(subject, answers="Stream") for subject in _ANSWERED_MANY_TIMES),
    ]


def _imports(log: str) -> list[jwt.Claims]:
    requests = (*_ANSWERED_ONCE, *_ANSWERED_MANY_TIMES)
    return [
        jwt.stream_import(log, _PUSHED),
        *(jwt.service_import(log, subject) for subject in requests),
    ]


def _allow(subjects: Sequence[str], denied: Sequence[str] = ()) -> JsonValue:
    if not subjects:
        return {"deny": [">"]}
    return {"allow": list(subjects), "deny": list(denied)} if denied else {"allow": list(subjects)}


def _int(value: JsonValue) -> int:
    if not isinstance(value, int):
        raise IdentityError(f"{json.dumps(value)[:40]} is not a time in seconds")
    return value
