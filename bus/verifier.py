"""Whether what stands in the log may be acted on, asked of the log itself where need be.

A payload that is in an object is fetched for senders whose signature is good, and checked
before it is parsed.

The credentials of a sender are looked up where the authority announced them, so a reader may
begin anywhere. What was revoked or rotated before an event is known before it is judged.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from bus.connection import Connection
from bus.errors import (
    IdentityError,
    MalformedEvent,
    MalformedPolicy,
    SubjectMismatch,
    UnknownKey,
    UntrustedEvent,
)
from bus.event import Event, StoredEvent
from bus.identity import Credential
from bus.objects import ObjectStore
from bus.payloads import IdentityIssued, PolicyAdopted
from bus.policy import PublishRules
from bus.policy_history import FOUNDING, FOUNDING_TYPES, PolicyHistory
from bus.receipt import first_stored
from bus.received import Received, RefusedEvent, fetched, refused_event
from bus.signing import SubjectPolicy
from bus.subjects import SYSTEM_RUN, TRUST_RUN, subject_for
from bus.trust import Standing, TrustStore, verify
from bus.trust_log import TrustLog
from bus.vault import Vault

log = structlog.get_logger()

MOST_SAID: Final = 64
"""Of one's own events, those that are known again: a reader is seldom further behind."""


class Verifier:
    """Checks what was received against the trust store and the policy in force there."""

    def __init__(
        self, connection: Connection, trust: TrustStore, objects: ObjectStore, vault: Vault
    ) -> None:
        self._connection = connection
        self._trust = trust
        self._objects = objects
        self._vault = vault
        self._said: dict[int, Event] = {}
        self._policies = PolicyHistory()
        self._changes = TrustLog(connection, trust, self._judge)

    def said(self, stored: StoredEvent) -> None:
        """Know again what this process has signed and stored, when it reads it soon after."""
        if stored.event.content is None:  # an object may be large
            self._said[stored.stream_sequence] = stored.event
        while len(self._said) > MOST_SAID:
            del self._said[next(iter(self._said))]

    async def begin_after(self, place: int) -> None:
        """Know what a reader has to know who is given every change of trust behind a place.

        Raises:
            BusUnreachable: the stream did not answer.
        """
        await self._changes.know(place + 1)

    async def check_next(self, received: Received, *, is_signed: bool = False) -> Received:
        """`check` for a reader who is given each change of trust in its place.

        Raises:
            BusUnreachable: the sender's credential or the object could not be looked up.
        """
        checked = await self._judge(received, is_signed=is_signed)
        self._changes.passed(checked)
        return checked

    async def meet(self, change: Received) -> None:
        """`check_next` of a change of trust that the reader wants for nothing else.

        Raises:
            BusUnreachable: the sender's credential could not be looked up.
        """
        if not self._changes.knows(change.stream_sequence):
            await self.check_next(change)

    async def check(
        self, received: Received, *, is_signed: bool = False, unseal: bool = True
    ) -> Received:
        """The event if it may be acted on, else what it is refused for.

        Args:
            received: from the log.
            is_signed: whether its signature is known to be good.
            unseal: whether what is sealed in it is wanted.

        Raises:
            BusUnreachable: the sender's credential, a change of trust before the event, or
                the object could not be looked up.
        """
        if isinstance(received, RefusedEvent):
            return received
        await self._changes.know(received.stream_sequence)
        return await self._judge(received, is_signed=is_signed, unseal=unseal)

    async def _judge(
        self, received: Received, *, is_signed: bool = False, unseal: bool = True
    ) -> Received:
        """The same, once all changes of trust before the event are known."""
        if isinstance(received, RefusedEvent):
            return received
        received = await self._as_first_stored(received)
        event = received.event
        own = self._said.pop(received.stream_sequence, None)
        if own != event or not unseal:
            own = None
        try:
            verify(
                event,
                await self._standing(received),
                self._policy_for(received),
                stream_sequence=received.stream_sequence,
                stored_at=received.stored_at,
                is_signed=is_signed or own is not None,
            )
            whole = own or await self._whole(event, unseal=unseal)
            self._adopt(whole, received.stream_sequence)
        except (UntrustedEvent, MalformedEvent) as error:
            return refused_event(event, received.stream_sequence, received.stored_at, error)
        except IdentityError as error:
            unknown = UnknownKey(str(error))
            return refused_event(event, received.stream_sequence, received.stored_at, unknown)
        except MalformedPolicy as error:
            unusable = MalformedEvent(str(error))
            return refused_event(event, received.stream_sequence, received.stored_at, unusable)
        return received if whole is event else replace(received, event=whole)

    async def _whole(self, event: Event, *, unseal: bool) -> Event:
        """The event with its object, and with what is sealed in it, where that is wanted."""
        whole = await self._objects.fetch(event)
        return await self._vault.opened(whole) if unseal else whole

    def _policy_for(self, received: StoredEvent) -> SubjectPolicy:
        """The policy in force at the place of an event: all adoptions before it are known."""
        event = received.event
        if event.type in FOUNDING_TYPES:
            return FOUNDING
        return self._policies.judge(received.stream_sequence, event.policy)

    def _adopt(self, event: Event, place: int) -> None:
        payload = event.payload()
        if isinstance(payload, PolicyAdopted):
            self._policies.adopt(place, payload, event=event.id)

    async def policy_in_force(self) -> PublishRules | None:
        """The policy that was adopted last, None if none was.

        Raises:
            BusUnreachable: the stream did not answer.
        """
        subject, position = subject_for(TRUST_RUN, PolicyAdopted.TYPE), 0
        while message := await self._connection.next_message(subject, after=position):
            adoption = fetched(message)
            position = adoption.stream_sequence
            await self.check(adoption)
        return self._policies.in_force(position + 1)

    async def vouched(self, public_key: str, *, place: int) -> Credential | None:
        """The credential under which a key counts now, None for a key that does not.

        Args:
            public_key: of a member.
            place: of the last event of the log.

        Raises:
            BusUnreachable: the stream did not answer.
        """
        await self._changes.know(place + 1)
        now = datetime.now(UTC)
        known = self._trust.find(public_key)
        if known is None or known.credential_for(place, now) is None:
            try:
                await self._look_up(public_key, known, place)
            except UnknownKey:
                return None
            known = self._trust.find(public_key)
        if known is None or known.is_revoked(place + 1):
            return None
        return known.credential_for(place, now)

    async def _as_first_stored(self, received: StoredEvent) -> StoredEvent:
        """With the time at which the event was first stored, if it was put back since."""
        if received.receipt is None:
            return received
        text, event, place = received.receipt, received.event, received.stream_sequence
        stored_at = first_stored(text, event, place, self._trust.roots)
        if stored_at is None:  # perhaps by a root of which this reader does not know yet
            stored_at = first_stored(text, event, place, await self._changes.roots())
        return received if stored_at is None else replace(received, stored_at=stored_at)

    async def _standing(self, received: StoredEvent) -> Standing | None:
        """What is known of the sender, with further announcements where that is not enough."""
        event, place = received.event, received.stream_sequence
        known = self._trust.find(event.key)
        if known is not None:
            if known.is_revoked(place):
                return known
            if known.credential_for(place, received.stored_at, event.time) is not None:
                return known
        await self._look_up(event.key, known, place)
        return self._trust.find(event.key)

    async def _look_up(self, public_key: str, known: Standing | None, place: int) -> None:
        """Admit what the authority announced of a key since the last that is known.

        Up to the place only: behind it, it is not known yet whose signature counts.
        """
        try:
            subject = subject_for(SYSTEM_RUN, IdentityIssued.TYPE, public_key)
        except SubjectMismatch as error:
            raise UnknownKey(f"{public_key[:80]!r} is not a key") from error
        position = known.announced[-1].stream_sequence if known and known.announced else 0
        while message := await self._connection.next_message(subject, after=position):
            announced = fetched(message)
            position = announced.stream_sequence
            if position > place:
                return
            token = _announced_credential(announced, public_key)
            if token is not None:
                await self._admit(token, position)

    async def _admit(self, token: str, place: int) -> None:
        try:
            self._trust.admit(token, place)
        except IdentityError as error:
            log.warning("bus.announcement_refused", stream_sequence=place, reason=str(error))


def _announced_credential(announced: Received, public_key: str) -> str | None:
    """The credential in an announcement, None where it is not one of this key."""
    try:
        payload = announced.payload() if isinstance(announced, StoredEvent) else None
        if isinstance(payload, IdentityIssued):
            token = payload.credential
            return token if Credential.parse(token).public_key == public_key else None
    except (MalformedEvent, IdentityError) as error:
        log.warning("bus.announcement_unreadable", key=public_key, reason=str(error)[:200])
    return None
