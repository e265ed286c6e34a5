"""Whether what stands in the log may be acted on, asked of the log itself where need be.

A payload that is in an object is fetched for senders whose signature is good, and checked
before it is parsed.

The credential of a sender that is not known yet is looked up where the authority first
announced it, so a reader may begin anywhere.
"""

from dataclasses import replace

import structlog

from bus.connection import Connection
from bus.errors import (
    IdentityError,
    MalformedEvent,
    SubjectMismatch,
    UnknownKey,
    UntrustedEvent,
)
from bus.event import StoredEvent
from bus.identity import Credential
from bus.objects import ObjectStore
from bus.payloads import IdentityIssued
from bus.received import Received, RefusedEvent, fetched, refused_event
from bus.signing import SubjectPolicy
from bus.subjects import SYSTEM_RUN, subject_for
from bus.trust import Admitted, TrustStore, verify

log = structlog.get_logger()


class Verifier:
    """Checks what was received against the trust store and the policy."""

    def __init__(
        self, connection: Connection, trust: TrustStore, policy: SubjectPolicy, objects: ObjectStore
    ) -> None:
        self._connection = connection
        self._trust = trust
        self._policy = policy
        self._objects = objects

    async def check(self, received: Received) -> Received:
        """The event if it may be acted on, else what it is refused for.

        Raises:
            BusUnreachable: the sender's credential or the object could not be looked up.
        """
        if isinstance(received, RefusedEvent):
            return received
        event = received.event
        try:
            verify(
                event,
                self._trust.find(event.key) or await self._look_up(event.key),
                self._policy,
                stream_sequence=received.stream_sequence,
                stored_at=received.stored_at,
            )
            whole = await self._objects.fetch(event)
            whole.payload()
        except (UntrustedEvent, MalformedEvent) as error:
            return refused_event(event, received.stream_sequence, received.stored_at, error)
        except IdentityError as error:
            unknown = UnknownKey(str(error))
            return refused_event(event, received.stream_sequence, received.stored_at, unknown)
        return received if whole is event else replace(received, event=whole)

    async def _look_up(self, public_key: str) -> Admitted | None:
        """Find the credential of a key where the authority first announced it.

        A later announcement changes nothing: what was valid in the log stays valid.
        """
        try:
            subject = subject_for(SYSTEM_RUN, IdentityIssued.TYPE, public_key)
        except SubjectMismatch as error:
            raise UnknownKey(f"{public_key[:80]!r} is not a key") from error
        position = 0
        while message := await self._connection.next_message(subject, after=position):
            announced = fetched(message)
            position = announced.stream_sequence
            token = _announced_credential(announced, public_key)
            if token is not None:
                return self._trust.admit(token, position)
        return None


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
