"""The ring of the authority's keys: which are in force, and how they follow each other. Pure.

What the log has still to be told of a change stands in the ring as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from bus.accounts import FOR_GOOD, Account, members_account
from bus.errors import BadSignature, IdentityError, MalformedEvent
from bus.event import derive_id, pre_authentication_encoding
from bus.nkey import AgentKey, decode_base64url, encode_base64url, verify_signature
from bus.trust_payloads import AuthorityRotated, IdentityRevoked, RootRotated, TrustChange

SUCCESSION: Final = "vllm-swarm/root-rotation/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """A change of trust that the log does not hold yet, as far as is known.

    Attributes:
        payload: of the event.
        issuing: the key that issues credentials once it is stored.
    """

    id: str
    payload: AuthorityRotated | RootRotated | IdentityRevoked
    issuing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The public half of the authority's keys.

    Attributes:
        operator, account, system, log: public keys in force; the account's never changes.
        first: the account as the first operator vouched for it: where trust begins.
        account_jwt: the account as it is now.
        signing: keys that may sign credentials, the newest first.
        issuing: the one of them that does.
        retiring: until when, in seconds since 1970, the older ones stay.
        revoked: keys that count no more.
        barred: members ("role/name") that get no credential.
        roots: how operators followed each other.
        untold: what the log has still to be told, in order.
        tenants: who has an account of their own.
        files: where the seed of each key is.
    """

    operator: str
    account: str
    system: str
    log: str
    first: Account
    account_jwt: str
    signing: tuple[str, ...]
    issuing: str
    retiring: Mapping[str, float] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    roots: tuple[RootRotated, ...] = ()
    untold: tuple[Untold, ...] = ()
    tenants: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)


def first_ring(operator: AgentKey, *, account: str, signing: str, system: str, log: str) -> Ring:
    """The ring of new keys. `signing` may be the account's own key."""
    listed = () if signing == account else (signing,)
    token = members_account(account, operator, log=log, signing=listed, revoked={}, issued_at=0)
    return Ring(
        operator=operator.public,
        account=account,
        system=system,
        log=log,
        first=Account.parse(token),
        account_jwt=token,
        signing=(signing,),
        issuing=signing,
    )


def with_new_signing_key(
    ring: Ring, operator: AgentKey, key: str, *, now: float, grace_s: float, change: TrustChange
) -> Ring:
    """Another key signs from here on; the older ones still count for a while."""
    retiring = {
        old: min(ring.retiring.get(old, now + grace_s), now + grace_s) for old in ring.signing
    }
    return _resigned(
        replace(ring, signing=(key, *ring.signing), retiring=retiring), operator, now, change, key
    )


def without_old_signing_keys(
    ring: Ring, operator: AgentKey, *, now: float, change: TrustChange, at_once: bool = False
) -> Ring:
    """The keys whose time is over count no more; the ring as it is if there is none.

    The key that issues stays until another one does.
    """
    if at_once:
        ring = replace(ring, retiring=dict.fromkeys(ring.retiring, now))
    over = {key for key, until in ring.retiring.items() if until <= now} - {ring.issuing}
    if not over:
        return ring
    signing = tuple(key for key in ring.signing if key not in over)
    retiring = {key: until for key, until in ring.retiring.items() if key not in over}
    smaller = replace(ring, signing=signing, retiring=retiring)
    return _resigned(smaller, operator, now, change, ring.issuing)


def with_revoked(
    ring: Ring, operator: AgentKey, revoked: tuple[IdentityRevoked, ...], *, now: float
) -> Ring:
    """These keys count no more, and their members get no new ones."""
    new = tuple(each for each in revoked if each.public_key not in ring.revoked)
    if not new:
        return ring
    told = tuple(_untold(each, ring.issuing) for each in new)
    ring = replace(
        ring,
        revoked=ring.revoked | {each.public_key for each in new},
        barred=ring.barred | {f"{each.role}/{each.name}" for each in new},
        untold=(*ring.untold, *told),
    )
    return replace(ring, account_jwt=_account(ring, operator, now))


def with_new_root(
    ring: Ring,
    old: AgentKey,
    new: AgentKey,
    *,
    now: float,
    change: TrustChange,
    log_key_jwt: str = "",
) -> Ring:
    """Another operator vouches from here on; the old one says so, and the new one too.

    Args:
        ring: before.
        old: the operator in force.
        new: the one that follows.
        now: seconds since 1970.
        change: who asked, and why.
        log_key_jwt: the new one's word over the audit log's key, where that is known.
    """
    statement = succession(old.public, new.public)
    ring = replace(ring, operator=new.public)
    account_jwt = _account(ring, new, now)
    rotated = RootRotated(
        operator=new.public,
        endorsement=encode_base64url(old.sign(statement)),
        acceptance=encode_base64url(new.sign(statement)),
        account_jwt=account_jwt,
        log_key_jwt=log_key_jwt,
        requested_by=change.requested_by,
        reason=change.reason,
    )
    return replace(
        ring,
        account_jwt=account_jwt,
        roots=(*ring.roots, rotated),
        untold=(*ring.untold, _untold(rotated, ring.issuing)),
    )


def with_tenant(ring: Ring, tenant: str) -> Ring:
    """A tenant has an account of its own from here on."""
    return replace(ring, tenants=ring.tenants | {tenant})


def told(ring: Ring, event_id: str) -> Ring:
    """The log holds that event now."""
    issuing = next((each.issuing for each in ring.untold if each.id == event_id), ring.issuing)
    left = tuple(each for each in ring.untold if each.id != event_id)
    return replace(ring, untold=left, issuing=issuing)


def succession(old: str, new: str) -> bytes:
    """What two operators sign when one follows the other."""
    return pre_authentication_encoding(*(text.encode() for text in (SUCCESSION, old, new)))


def is_endorsed(rotated: RootRotated, old: str) -> bool:
    """Whether the old operator says that the new one follows it."""
    return _signed(old, succession(old, rotated.operator), rotated.endorsement)


def is_accepted(rotated: RootRotated, old: str) -> bool:
    """Whether the new operator says that it follows the old one."""
    return _signed(rotated.operator, succession(old, rotated.operator), rotated.acceptance)


def _resigned(
    ring: Ring, operator: AgentKey, now: float, change: TrustChange, issuing: str
) -> Ring:
    ring = replace(ring, account_jwt=_account(ring, operator, now))
    rotated = AuthorityRotated(
        account_jwt=ring.account_jwt, requested_by=change.requested_by, reason=change.reason
    )
    return replace(ring, untold=(*ring.untold, _untold(rotated, issuing)))


def _account(ring: Ring, operator: AgentKey, now: float) -> str:
    """The account's JWT anew, issued later than the one before."""
    return members_account(
        ring.account,
        operator,
        log=ring.log,
        signing=[key for key in ring.signing if key != ring.account],
        revoked=dict.fromkeys(sorted(ring.revoked), FOR_GOOD),
        issued_at=max(int(now), Account.parse(ring.account_jwt).issued_at + 1),
    )


def _untold(payload: AuthorityRotated | RootRotated | IdentityRevoked, issuing: str) -> Untold:
    event_id = derive_id(payload.TYPE, payload.model_dump_json())
    return Untold(id=event_id, payload=payload, issuing=issuing)


def _signed(public: str, message: bytes, signature: str) -> bool:
    try:
        verify_signature(public, message, decode_base64url(signature, length=64))
    except (BadSignature, IdentityError, MalformedEvent):
        return False
    return True
