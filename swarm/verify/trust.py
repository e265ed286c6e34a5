"""What is trusted at each place of the log: roots, accounts, credentials, revocations, policies.

All of it begins with one public key and moves on by events that are themselves verified.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from swarm.verify.key import (
    ACCOUNT,
    OPERATOR,
    USER,
    check_signature,
    claims_of,
    encode_fields,
    public_key,
    signed_claims,
)
from swarm.verify.policy import Policy
from swarm.verify.record import SYSTEM_RUN, TRUST_RUN, Event
from swarm.verify.text import Json, NotProven, base64url_bytes, number, read_json, string

AUTHORITY: Final = "authority"
ISSUED: Final = "identity.issued"
_REVOKED: Final = "identity.revoked"
_AUTHORITY_ROTATED: Final = "authority.rotated"
_ROOT_ROTATED: Final = "root.rotated"
_ADOPTED: Final = "policy.adopted"
_MADE_KNOWN_IN: Final = {
    ISSUED: SYSTEM_RUN,
    **dict.fromkeys((_REVOKED, _AUTHORITY_ROTATED, _ROOT_ROTATED, _ADOPTED), TRUST_RUN),
}
"""Kinds that make known what the policy speaks of, so they come before it; and their runs."""
CHANGES: Final = frozenset(kind for kind, run in _MADE_KNOWN_IN.items() if run == TRUST_RUN)
"""Kinds that change, in the run of trust, whom to believe from there on."""
_ROOT_DOMAIN: Final = b"vllm-swarm/root-rotation/v1"
_ACCOUNT_JWT: Final = "the account's JWT"
_ROLE_TAG: Final = "role:"
_SKEW_S: Final = 5
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The authority's word that a key is this agent for a time, in seconds since 1970."""

    role: str
    name: str
    issued_s: int
    expires_s: int

    def covers(self, seconds: float) -> bool:
        """Whether the moment lies in its life, with 5 s for clocks that differ."""
        return self.issued_s - _SKEW_S <= seconds < self.expires_s + _SKEW_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The members' account as a root vouches for it.

    Attributes:
        key: its public key.
        signers: the keys that may sign credentials: its own, and its signing keys.
        issued_s: seconds since 1970.
    """

    key: str
    signers: frozenset[str]
    issued_s: int


class Trust:
    """Follows the log from its first event of trust on.

    Args:
        root: public key of the operator that all trust begins with.
        account_jwt: signed by it.
        documents: policies that no event adopts, for events that name them by digest.
    """

    def __init__(self, root: str, account_jwt: str, documents: Iterable[str]) -> None:
        public_key(root, OPERATOR)
        self.roots = [root]
        self._accepted = {root}
        self._account = _account_in(account_jwt, root)
        self._changes: set[tuple[str, str, bytes]] = set()
        self._credentials: dict[str, list[Credential]] = defaultdict(list)
        self._revoked: set[str] = set()
        self._policies = {policy.digest: policy for policy in map(Policy.read, documents)}
        self._given = set(self._policies)
        self._in_force: str | None = None
        self.obeyed: set[str] = set()

    @property
    def unused(self) -> set[str]:
        """Digests of documents that came along and that no event has named."""
        return self._given - self.obeyed

    def leads_to(self, root: str) -> bool:
        """Whether a root is the first one, or each root up to it accepted to follow another."""
        if root not in self.roots:
            return False
        return self._accepted.issuperset(self.roots[: self.roots.index(root) + 1])

    def judge(self, event: Event, stored_us: int) -> None:
        """Accept an event that may be acted on at this place, and take in what it makes known.

        Raises:
            NotProven: anything else.
        """
        makes_known = event.kind in _MADE_KNOWN_IN and event.run == _MADE_KNOWN_IN[event.kind]
        if makes_known and event.kind == ISSUED:
            self._admit(event)
        if event.key in self._revoked:
            raise NotProven(f"the key {event.key} was revoked before")
        credential = self._credential(event, stored_us)
        if (event.role, event.name) != (credential.role, credential.name):
            raise NotProven(
                f"the sender says {event.role}/{event.name}, its credential"
                f" {credential.role}/{credential.name}"
            )
        event.check_signature()
        if event.role == AUTHORITY and makes_known:
            self._follow(event)
        else:
            self._obey(event)

    def _credential(self, event: Event, stored_us: int) -> Credential:
        known = self._credentials.get(event.key)
        if not known:
            raise NotProven(f"no credential before it vouches for the key {event.key}")
        moments = event.time.timestamp(), stored_us / _MICROSECONDS
        for credential in known:
            if all(map(credential.covers, moments)):
                return credential
        raise NotProven(f"no credential of the key {event.key} covers the event's time")

    def _obey(self, event: Event) -> None:
        if self._in_force not in (None, event.policy):
            raise NotProven(f"the policy {event.policy[:64]!r} is not the one in force")
        policy = self._policies.get(event.policy)
        if policy is None:
            raise NotProven(f"no policy document has the digest {event.policy[:64]!r}")
        if not policy.permits(event.role, event.tokens):
            raise NotProven(f"the policy does not let a {event.role} publish {event.subject}")
        self.obeyed.add(event.policy)

    def _admit(self, event: Event) -> None:
        """Take the credential in, if the account in force signed it.

        One by a signer that counts no more was overtaken by a rotation: it vouches for nobody.
        """
        payload = read_json(event.data, "the announcement")
        what = "the credential"
        token = string(payload.get("credential"), what)
        signer, claims = signed_claims(token, ACCOUNT, what)
        nats = claims.get("nats")
        if isinstance(nats, dict) and nats.get("issuer_account", signer) != self._account.key:
            raise NotProven(f"{what} is of another account")
        key = string(claims.get("sub"), what)
        public_key(key, USER)
        if list(event.tokens[2:]) != [key] or payload.get("public_key") != key:
            raise NotProven(f"it announces a credential of another key, {key}")
        credential = Credential(
            role=_role_in(claims),
            name=string(claims.get("name"), what),
            issued_s=number(claims.get("iat"), what),
            expires_s=number(claims.get("exp"), what),
        )
        if signer in self._account.signers:
            self._credentials[key].append(credential)

    def _follow(self, event: Event) -> None:
        """What an event of the authority changes; its sender has been checked.

        Nothing where the log was told the very same once more: it counts where it stands first.
        """
        change = event.kind, event.id, event.data
        if event.kind == ISSUED or change in self._changes:
            return
        payload = read_json(event.data, "the event of trust")
        if event.kind == _REVOKED:
            self._revoked.add(string(payload.get("public_key"), "the revoked key"))
        elif event.kind == _ADOPTED:
            self._adopt(payload)
        else:
            self._rotate(event, payload)
        self._changes.add(change)

    def _adopt(self, payload: Mapping[str, Json]) -> None:
        policy = Policy.read(string(payload.get("document"), "the policy document"))
        if payload.get("digest") != policy.digest:
            raise NotProven("the adopted document has another digest")
        self._policies[policy.digest] = policy
        self._in_force = policy.digest
        self.obeyed.add(policy.digest)

    def _rotate(self, event: Event, payload: Mapping[str, Json]) -> None:
        if event.kind == _AUTHORITY_ROTATED:
            self._renew_account(payload, self.roots[-1])
        else:
            self._rotate_root(payload)

    def _rotate_root(self, payload: Mapping[str, Json]) -> None:
        old, new = self.roots[-1], string(payload.get("operator"), "the new root")
        public_key(new, OPERATOR)
        endorsement = base64url_bytes(
            string(payload.get("endorsement"), "the endorsement"), "the endorsement"
        )
        endorsed = encode_fields(_ROOT_DOMAIN, old.encode(), new.encode())
        check_signature(old, OPERATOR, endorsed, endorsement)
        self._renew_account(payload, new)
        self.roots.append(new)
        accepted = string(payload.get("acceptance", ""), "the acceptance")
        with suppress(NotProven):
            signature = base64url_bytes(accepted, "the acceptance")
            check_signature(new, OPERATOR, endorsed, signature)
            self._accepted.add(new)

    def _renew_account(self, payload: Mapping[str, Json], root: str) -> None:
        """Other keys of the same account sign from here on; what was replaced does not return."""
        token = string(payload.get("account_jwt"), _ACCOUNT_JWT)
        account = _account_in(token, root)
        if account.key != self._account.key or account.issued_s <= self._account.issued_s:
            raise NotProven("the account is another one, or not issued later than the one before")
        self._account = account


def _account_in(token: str, root: str) -> Account:
    """The account of a JWT that the root signed."""
    what = _ACCOUNT_JWT
    claims = claims_of(token, (root,), OPERATOR, what)
    nats = claims.get("nats")
    if not isinstance(nats, dict) or nats.get("type") != "account":
        raise NotProven(f"{what} is not one of an account")
    listed = nats.get("signing_keys", [])
    if not isinstance(listed, list):
        raise NotProven(f"{what} has no list of signing keys")
    keys = [string(key, what) for key in (claims.get("sub"), *listed)]
    for key in keys:
        public_key(key, ACCOUNT)
    issued_s = number(claims.get("iat"), what)
    return Account(key=keys[0], signers=frozenset(keys), issued_s=issued_s)


def _role_in(claims: Mapping[str, Json]) -> str:
    nats = claims.get("nats")
    tags = nats.get("tags") if isinstance(nats, dict) else None
    for tag in tags if isinstance(tags, list) else ():
        if isinstance(tag, str) and tag.startswith(_ROLE_TAG):
            return tag.removeprefix(_ROLE_TAG)
    raise NotProven("the credential names no role")
