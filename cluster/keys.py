"""What people do with the keys of a swarm: rotate, revoke, let back in, look.

A change counts once it is on the disk; the broker and the log of a running swarm are told
before this returns, those of a stopped one when it starts.
"""

import getpass
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from actors.member import Domain
from actors.rotation import (
    Change,
    decide,
    new_root,
    new_signing_key,
    old_signing_keys_out,
    revocation,
    settle,
)
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import Authority, Credential
from bus.keyring import KeyDirectory
from bus.log import EventLog
from bus.payloads import IdentityIssued
from bus.subjects import SYSTEM_RUN, TRUST_RUN, kind_of, run_filter
from bus.trust_payloads import IdentityRevoked, RotationRequested, TrustChange
from cluster import state as states
from cluster.errors import NotRunning, UnknownKeyName
from cluster.home import Home
from cluster.log_access import acting, domain_in, observing
from cluster.log_key import log_key_word
from cluster.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One key as the log tells of it."""

    public_key: str
    role: str
    name: str
    announced: datetime
    expires: datetime
    revoked: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """Whether its events are believed."""
        return self.revoked is None and now < self.expires


async def rotate_authority(settings: Settings, *, reason: str, at_once: bool) -> bool:
    """Have another key sign credentials; whether a running swarm knows of it already.

    The older key counts for as long as a credential lives, or no longer at all: then every
    member gets a new credential at once.

    Raises:
        NotRunning: no swarm has run in this home: it has no keys.
        IdentityError: the keys cannot be read or written.
        BusUnreachable, ClaimsRefused, PublishError: run it again to bring it to an end.
    """
    asked = TrustChange(requested_by=person(), reason=reason)
    change = new_signing_key(asked, grace_s=settings.credential_ttl_s)
    if not await _changed(settings, change):
        if at_once:
            _decided(settings, old_signing_keys_out(asked, at_once=True))
        return False
    # Under the new key, because whoever has the old one is cut off now.
    return not at_once or await _changed(settings, old_signing_keys_out(asked, at_once=True))


async def rotate_root(settings: Settings, *, reason: str) -> bool:
    """Have another operator vouch for the account; whether a running swarm knows of it already.

    It vouches for the key of the audit log as well: who trusts it needs that for a proof.

    Raises:
        NotRunning: no swarm has run in this home: it has no keys.
        IdentityError, HomeNotUsable: the keys cannot be read or written.
        BusUnreachable, ClaimsRefused, PublishError: run it again to bring it to an end.
    """
    asked = TrustChange(requested_by=person(), reason=reason)
    vouch = partial(log_key_word, settings.located_home())
    return await _changed(settings, new_root(asked, vouch))


async def revoke(settings: Settings, key_or_name: str, *, reason: str) -> tuple[KnownKey, ...]:
    """Have the keys of a member, or one key, count no more; the keys that were revoked.

    Their member gets no new one until it is enrolled again.

    Raises:
        NotRunning: there is no swarm to ask for the key.
        UnknownKeyName: it has no such key or member.
        BusUnreachable, ClaimsRefused, PublishError: run it again to bring it to an end.
    """
    home, domain = _running(settings)
    found = await _named(home, domain, key_or_name)
    async with acting(home, domain) as log:
        revoked = tuple(
            IdentityRevoked(
                role=each.role, name=each.name, public_key=each.public_key,
                requested_by=person(), reason=reason,
            )
            for each in found
        )  # fmt: skip
        directory = KeyDirectory(home.keys)
        decide(directory, revocation(revoked))
        await settle(directory, log, domain.nats_url)
    return found


async def rotate_agent(settings: Settings, name: str, *, reason: str) -> tuple[KnownKey, ...]:
    """Ask the member of a name to go on under a new key; the keys that it is to give up.

    Raises:
        NotRunning: there is no swarm.
        UnknownKeyName: it has no such member.
        BusUnreachable, PublishError: it could not be told.
    """
    home, domain = _running(settings)
    found = await _named(home, domain, name)
    async with acting(home, domain) as log:
        for each in found:
            payload = RotationRequested(
                role=each.role, name=each.name, public_key=each.public_key,
                requested_by=person(), reason=reason,
            )  # fmt: skip
            event_id = derive_id("rotation.requested", each.public_key)
            await log.append(
                Draft(run=SYSTEM_RUN, payload=payload, id=event_id, suffix=(each.public_key,))
            )
    return found


def enrol(settings: Settings, name: str) -> tuple[str, ...]:
    """Let a member back in whose key was revoked; which ("role/name").

    Raises:
        NotRunning: no swarm has run in this home: it has no keys.
        UnknownKeyName: nobody of that name is kept out.
        IdentityError: the keys cannot be read or written.
    """
    directory = keys_in(settings.located_home())
    with directory.locked():
        authority = Authority.load(directory.path)
        barred = authority.ring.barred
        back = {member for member in barred if name in (member, member.partition("/")[2])}
        if not back:
            raise UnknownKeyName(f"Nobody called {name[:64]!r} is kept out.")
        directory.commit(replace(authority.ring, barred=barred - back), authority.keys)
    return tuple(sorted(back))


async def keys_of(settings: Settings) -> tuple[KnownKey, ...]:
    """Every key of which the log of a running swarm tells.

    Raises:
        NotRunning: there is none.
        BusUnreachable: its broker does not answer.
    """
    async with observing(*_running(settings)) as log:
        return await known_keys(log)


async def known_keys(log: EventLog) -> tuple[KnownKey, ...]:
    """Every key of which the log tells, in the order in which they were announced.

    Raises:
        BusUnreachable: the broker went away.
    """
    keys: dict[str, KnownKey] = {}
    issued = f"{run_filter(SYSTEM_RUN)[:-1]}{kind_of(IdentityIssued.TYPE)}.*"
    async with aclosing(log.read(issued)) as events:
        async for received in events:
            payload = received.payload() if isinstance(received, StoredEvent) else None
            if isinstance(payload, IdentityIssued):
                keys[payload.public_key] = _renewed(keys.get(payload.public_key), payload)
    async with aclosing(log.read(run_filter(TRUST_RUN))) as events:
        async for received in events:
            payload = received.payload() if isinstance(received, StoredEvent) else None
            if isinstance(payload, IdentityRevoked) and payload.public_key in keys:
                known = keys[payload.public_key]
                keys[payload.public_key] = replace(known, revoked=received.stored_at)
    return tuple(keys.values())


def keys_in(home: Home) -> KeyDirectory:
    """The keys of a home in which a swarm has run.

    Raises:
        NotRunning: none has.
    """
    directory = KeyDirectory(home.keys)
    if not directory.exists:
        raise NotRunning(f"No swarm has run in {home.root}.")
    return directory


def person() -> str:
    """Who asks: the user of this machine."""
    return getpass.getuser()[:128]


def _renewed(known: KnownKey | None, payload: IdentityIssued) -> KnownKey:
    if known is not None:
        return replace(known, expires=payload.expires_at)
    return KnownKey(
        public_key=payload.public_key,
        role=payload.role,
        name=payload.name,
        announced=Credential.parse(payload.credential).issued_at,
        expires=payload.expires_at,
    )


async def _named(home: Home, domain: Domain, key_or_name: str) -> tuple[KnownKey, ...]:
    now = datetime.now(UTC)
    async with observing(home, domain) as log:
        keys = await known_keys(log)
    found = tuple(
        each
        for each in keys
        if (each.public_key == key_or_name and each.revoked is None)
        or (key_or_name in (each.name, f"{each.role}/{each.name}") and each.counts(now))
    )
    if not found:
        raise UnknownKeyName(f"No key that counts is, or belongs to, {key_or_name[:64]!r}.")
    return found


def _decided(settings: Settings, change: Change) -> None:
    decide(keys_in(settings.located_home()), change)


async def _changed(settings: Settings, change: Change) -> bool:
    """Make a change; whether a running swarm has been told of it."""
    home = settings.located_home()
    state = states.load(home)
    if state is None or not state.alive():
        _decided(settings, change)
        return False
    directory, domain = KeyDirectory(home.keys), domain_in(home, state)
    async with acting(home, domain) as log:
        await settle(directory, log, domain.nats_url)  # what an earlier command left
        decide(directory, change)
        await settle(directory, log, domain.nats_url)
    return True


def _running(settings: Settings) -> tuple[Home, Domain]:
    home = settings.located_home()
    return home, domain_in(home, states.load_running(home))
