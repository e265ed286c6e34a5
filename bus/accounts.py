"""The accounts of NATS operator mode: what is in which, and what the members see of the log.

The log is in an account of its own. The broker does not check the subject that a
request asks to be answered on, and answers under its own name: were the log in the
members' account, an answer could be sent to ``$JS.API.STREAM.DELETE``. An answer that
crosses to another account only reaches subscribers there (docs/adr/0007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from bus import jwt
from bus.errors import IdentityError
from bus.nkey import AgentKey
from bus.reference import ALL_OBJECTS, OBJECTS
from bus.subjects import ALL_EVENTS, STREAM

FOR_GOOD: Final = 253_402_300_799
"""Seconds since 1970, the end of the year 9999: a key is revoked for credentials up to then."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The members' account as an operator vouches for it.

    Attributes:
        jwt: that says so.
        public_key: of the account.
        operator: who vouches.
        signers: keys that may sign credentials of its members.
        issued_at: seconds since 1970; a later one replaces an earlier one.
    """

    jwt: str
    public_key: str
    operator: str
    signers: frozenset[str]
    issued_at: int

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read an account's JWT and check its own signature, not yet whose it is.

        Raises:
            IdentityError: it is malformed, or not that of an account.
        """
        claims = jwt.decode(token)
        nats, issued_at = claims.get("nats"), claims.get("iat")
        if not (isinstance(nats, dict) and nats.get("type") == "account"):
            raise IdentityError("the token is not that of an account")
        listed = nats.get("signing_keys", [])
        if not isinstance(listed, list) or not isinstance(issued_at, int):
            raise IdentityError("the token of the account lacks a claim that this system needs")
        account = str(claims.get("sub"))
        signers = {key for key in listed if isinstance(key, str)}
        return cls(
            jwt=token,
            public_key=account,
            operator=str(claims["iss"]),
            signers=frozenset({account, *signers}),
            issued_at=issued_at,
        )


def members_account(
    account: str,
    operator: AgentKey,
    *,
    log: str,
    signing: Sequence[str],
    revoked: Mapping[str, int],
    issued_at: int,
) -> str:
    """The JWT of the members' account.

    Args:
        account: its public key.
        operator: signs.
        log: public key of the account that holds the log.
        signing: keys that may sign credentials besides the account's own.
        revoked: keys whose credentials count no more, and up to which time of issue.
        issued_at: seconds since 1970.
    """
    claims = jwt.account_claims(account, "swarm", issued_at, jetstream=False, imports=_imports(log))
    nats = claims["nats"]
    if isinstance(nats, dict):
        if signing:
            nats["signing_keys"] = list(signing)
        if revoked:
            nats["revocations"] = dict(revoked)
    return jwt.encode(claims, operator)


def log_account(account: str, operator: AgentKey) -> str:
    """The JWT of the account that holds the log."""
    claims = jwt.account_claims(account, "log", 0, jetstream=True, exports=_exports())
    return jwt.encode(claims, operator)


def system_account(account: str, operator: AgentKey) -> str:
    """The JWT of the broker's own account."""
    return jwt.encode(jwt.account_claims(account, "system", 0, jetstream=False), operator)


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
