"""Changes of trust, from the ring of keys to the broker and into the log.

A change is decided by replacing the ring; whoever finds the ring changed brings the rest to
an end: the command that changed it, or the authority that is running, or the next one.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import structlog

from bus.claims import tell_broker
from bus.errors import BusUnreachable, ClaimsRefused, SwarmError
from bus.event import Draft, StoredEvent
from bus.identity import Authority
from bus.keyring import KeyDirectory
from bus.log import EventLog
from bus.nkey import ACCOUNT, OPERATOR, AgentKey
from bus.ring import (
    Ring,
    Untold,
    told,
    with_new_root,
    with_new_signing_key,
    with_revoked,
    with_tenant,
    without_old_signing_keys,
)
from bus.subjects import TRUST_RUN, subject_for
from bus.trust_payloads import IdentityRevoked, RootRotated, TrustChange

logger = structlog.get_logger()

LOOK_S: Final = 0.5
"""Between two looks of the running authority at whether the ring was changed."""
RETRY_S: Final = 0.2
BROKER_S: Final = 30.0
"""How long a broker may take to trust another operator: it is started anew for that."""
COMMITTED: Final = "committed"
TOLD_BROKER: Final = "told broker"
STORED: Final = "stored"
SETTLED: Final = "settled"
"""Where a change may be interrupted, in order; tests do."""

T = TypeVar("T")
Reached = Callable[[str], None]
Change = Callable[[Authority], tuple[Ring, tuple[AgentKey, ...]]]
SYSTEM: Final = TrustChange(requested_by="authority", reason="the grace of the older key is over")


def _pass(_: str) -> None:
    """Nobody waits for a moment."""


def new_signing_key(asked: TrustChange, *, grace_s: float) -> Change:
    """Another key signs credentials from here on."""

    def change(authority: Authority) -> tuple[Ring, tuple[AgentKey, ...]]:
        key, operator = AgentKey.generate(ACCOUNT), authority.keys[authority.ring.operator]
        ring = with_new_signing_key(
            authority.ring, operator, key.public, now=time.time(), grace_s=grace_s, change=asked
        )
        return ring, (key,)

    return change


def old_signing_keys_out(asked: TrustChange, *, at_once: bool) -> Change:
    """The older signing keys count no more: at once, or those whose grace is over."""

    def change(authority: Authority) -> tuple[Ring, tuple[AgentKey, ...]]:
        ring, operator = authority.ring, authority.keys[authority.ring.operator]
        smaller = without_old_signing_keys(
            ring, operator, now=time.time(), change=asked, at_once=at_once
        )
        return smaller, ()

    return change


def new_root(asked: TrustChange, vouch: Callable[[AgentKey], str]) -> Change:
    """Another operator vouches for the account, and for the audit log's key, from here on.

    Args:
        asked: who asked, and why.
        vouch: the word of an operator over the key of the audit log.
    """

    def change(authority: Authority) -> tuple[Ring, tuple[AgentKey, ...]]:
        ring, new = authority.ring, AgentKey.generate(OPERATOR)
        old = authority.keys[ring.operator]
        ring = with_new_root(ring, old, new, now=time.time(), change=asked, log_key_jwt=vouch(new))
        return ring, (new,)

    return change


def revocation(revoked: tuple[IdentityRevoked, ...]) -> Change:
    """These keys count no more."""

    def change(authority: Authority) -> tuple[Ring, tuple[AgentKey, ...]]:
        operator = authority.keys[authority.ring.operator]
        return with_revoked(authority.ring, operator, revoked, now=time.time()), ()

    return change


def tenant_added(tenant: str) -> Change:
    """A tenant has an account of its own."""

    def change(authority: Authority) -> tuple[Ring, tuple[AgentKey, ...]]:
        return with_tenant(authority.ring, tenant), ()

    return change


def decide(directory: KeyDirectory, change: Change, *, reached: Reached = _pass) -> Ring:
    """Put a change in force on disk; the ring afterwards.

    Raises:
        IdentityError: the keys cannot be read or written.
    """
    with directory.locked():
        before = Authority.load(directory.path)
        ring, new = change(before)
        if ring != before.ring:
            keys = {**before.keys, **{key.public: key for key in new}}
            directory.commit(ring, keys)
    reached(COMMITTED)
    return ring


async def settle(
    directory: KeyDirectory, log: EventLog, nats_url: str, *, reached: Reached = _pass
) -> None:
    """Tell the broker and the log of all changes that they do not know yet.

    Args:
        directory: with the ring.
        log: of a sender of role authority.
        nats_url: where the broker is.
        reached: is called at each named moment.

    Raises:
        ClaimsRefused: the broker does not take the account.
        BusUnreachable, PublishError: it was not brought to an end; do it again.
    """
    while (authority := Authority.load(directory.path)).ring.untold:
        first = authority.ring.untold[0]
        if isinstance(first.payload, RootRotated):  # the broker is started anew meanwhile
            await _tell_log(log, draft_of(first))
            reached(STORED)
            await _patiently(partial(_tell_broker, nats_url, authority))
        else:
            await _tell_broker(nats_url, authority)
            reached(TOLD_BROKER)
            await _tell_log(log, draft_of(first))
            reached(STORED)
        with directory.locked():
            now = Authority.load(directory.path)
            directory.commit(told(now.ring, first.id), now.keys)
        logger.info(
            "trust.changed", type=first.payload.TYPE, requested_by=first.payload.requested_by
        )
        reached(SETTLED)


async def keep_settled(directory: KeyDirectory, log: EventLog, nats_url: str) -> None:
    """Bring to an end, until cancelled, what others began; remove signing keys in time."""
    while True:
        try:
            if _next_due(directory) <= time.time():
                decide(directory, old_signing_keys_out(SYSTEM, at_once=False))
            await settle(directory, log, nats_url)
            seen, due = directory.changed_at(), _next_due(directory)
            while directory.changed_at() == seen and time.time() < due:  # noqa: ASYNC110 - a file
                await asyncio.sleep(LOOK_S)
        except SwarmError as error:
            logger.warning("trust.not_settled", code=error.code, reason=str(error))
            await asyncio.sleep(LOOK_S)


def _next_due(directory: KeyDirectory) -> float:
    """When the grace of a signing key ends, in seconds since 1970."""
    return min(directory.load()[0].retiring.values(), default=math.inf)


def draft_of(change: Untold) -> Draft:
    """The event that tells of a change."""
    payload = change.payload
    suffix = (payload.public_key,) if isinstance(payload, IdentityRevoked) else ()
    return Draft(run=TRUST_RUN, payload=payload, id=change.id, suffix=suffix)


async def _tell_log(log: EventLog, draft: Draft) -> None:
    """Store the event of a change, unless it is there: the stream forgets ids after a while."""
    if not await _patiently(partial(_holds, log, draft)):
        await log.append(draft)


async def _holds(log: EventLog, draft: Draft) -> bool:
    subject, place = subject_for(draft.run, draft.payload.TYPE, *draft.suffix), 0
    while (there := await log.next_on(subject, after=place)) is not None:
        if isinstance(there, StoredEvent) and there.event.id == draft.id:
            return True
        place = there.stream_sequence
    return False


async def _tell_broker(nats_url: str, authority: Authority) -> None:
    await tell_broker(nats_url, authority)
    for tenant in sorted(authority.ring.tenants):
        await tell_broker(nats_url, authority, tenant=tenant)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a broker that may be away, or cut us off, meanwhile."""
    until = time.monotonic() + BROKER_S
    while True:
        try:
            return await ask()
        except (ClaimsRefused, BusUnreachable):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY_S)
