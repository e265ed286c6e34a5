"""The event log: append signed events, read them back verified.

Delivery of `read` and `follow`: in the order of the log, each event once, none left
out. What does not verify is yielded as a RefusedEvent, so that a reader sees that
something stood there and goes on.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus.connection import Connection, PublishAck, StreamRefusal, reachable
from bus.errors import (
    BusUnreachable,
    IdentityError,
    MalformedEvent,
    PublishConflict,
    PublishError,
    PublishUnconfirmed,
    SubjectMismatch,
    UnknownKey,
    UntrustedEvent,
)
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.identity import Credential
from bus.payloads import EventRefused, IdentityIssued
from bus.pull import pull
from bus.received import Received, RefusedEvent, delivered, fetched, refused_event
from bus.signing import Sender, SubjectPolicy
from bus.subjects import STREAM, SYSTEM_RUN, parse, subject_for
from bus.trust import Admitted, TrustStore, verify

log = structlog.get_logger()

READ_BATCH: Final = 256
RETRY_S: Final = 0.1
ATTEMPT_TIMEOUT_S: Final = 2.0
READER_LIFE_S: Final = 60.0
"""A reader that is not asked for messages for so long is removed by the broker."""
_WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Store only if the last event matching the filter still is this one (0: none yet)."""

    subject_filter: str
    stream_sequence: int


class EventLog:
    """The log as one sender and reader sees it."""

    def __init__(
        self,
        connection: Connection,
        trust: TrustStore,
        policy: SubjectPolicy,
        sender: Sender,
        *,
        deadline_s: float = 30.0,
    ) -> None:
        """Wrap a connection.

        Args:
            connection: to the broker, with the sender's credential.
            trust: whom to believe.
            policy: what each role may publish.
            sender: signs what `append` is given.
            deadline_s: how long `append` tries to learn the outcome.
        """
        self.connection = connection
        self.sender = sender
        self._trust = trust
        self._policy = policy
        self._deadline_s = deadline_s
        self._order = asyncio.Lock()
        self._unresolved: Event | None = None
        self._expectation: Mapping[str, str] = {}
        self._position = 0

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        """Sign an event and store it durably; it is in the log when this returns.

        The same bytes are sent again until the outcome is known. An id that is already in
        the log is not stored twice: what stands there is returned.

        Raises:
            PublishDenied: the policy or the broker refuses.
            PublishConflict: `expected` no longer holds; nothing was stored.
            PublishUnconfirmed: the outcome is still unknown after `deadline_s`. The next
                append finds it out first: the event is stored then, unless it already is
                or `expected` no longer holds.
            PayloadTooLarge: over 256 KiB.
        """
        async with self._order:
            if self._unresolved is not None:
                await self._resolve(self._unresolved)
            event = self.sender.sign(draft)
            return await self._store(event, _expectation(expected))

    async def _resolve(self, event: Event) -> None:
        """Find out what became of an event whose caller was told that nobody knows.

        The log is asked first: the stream forgets ids after a while.
        """
        try:
            if await self._found(event) is None:
                await self._store(event, self._expectation)
        except BusUnreachable as error:
            raise PublishUnconfirmed(f"the outcome of {event.id} is still unknown") from error
        except PublishUnconfirmed:
            raise
        except PublishError as error:
            log.warning("bus.append_given_up", id=event.id, code=error.code, reason=str(error))

    async def _found(self, event: Event) -> StoredEvent | None:
        """Look for these very bytes where they would be; if they are there, they are settled."""
        position = self._position
        while message := await self.connection.next_message(event.subject, after=position):
            there = fetched(message)
            position = there.stream_sequence
            if isinstance(there, StoredEvent) and there.event == event:
                return self._advanced(event, position)
        return None

    def _advanced(self, event: Event, sequence: int) -> StoredEvent:
        self.sender.advance(event)
        self._position, self._unresolved = sequence, None
        return StoredEvent(event=event, stream_sequence=sequence, stored_at=event.time)

    async def _store(self, event: Event, expectation: Mapping[str, str]) -> StoredEvent:
        self._unresolved, self._expectation = event, expectation
        headers = {**event.headers, **expectation, "Nats-Msg-Id": event.id}
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        while True:
            try:
                ack = await self._publish(event, headers)
                stored = await self._settle(event, ack)
            except (PublishUnconfirmed, BusUnreachable) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise PublishUnconfirmed(str(error)) from error
                await asyncio.sleep(RETRY_S)
            except PublishError:
                self._unresolved = None
                raise
            else:
                if stored is not None:
                    self._unresolved = None
                    return stored
                log.warning("bus.id_taken", id=event.id, by_stream_sequence=ack.sequence)
                headers["Nats-Msg-Id"] = event.digest.hex()

    async def _publish(self, event: Event, headers: Mapping[str, str]) -> PublishAck:
        try:
            return await self.connection.publish(
                event.subject, event.data, headers, timeout_s=ATTEMPT_TIMEOUT_S
            )
        except StreamRefusal as refusal:
            # The stream compares sequences before ids: what refuses this may be our own
            # event, stored by an earlier try whose confirmation was lost.
            there = await self._found(event)
            if there is None:
                raise _translated(refusal, event) from refusal
            return PublishAck(sequence=there.stream_sequence, duplicate=False)

    async def _settle(self, event: Event, ack: PublishAck) -> StoredEvent | None:
        """Move the chain on if what is stored is ours.

        A duplicate may be somebody else's. It counts as the same thing said only where it
        verifies and its sender may say what we say; None where a message merely took our id.
        """
        if ack.duplicate:
            message = await self.connection.message_at(ack.sequence)
            there = None if message is None else fetched(message)
            if not isinstance(there, StoredEvent):
                return None
            if there.event != event:
                return await self._same_thing(there, event)
        return self._advanced(event, ack.sequence)

    async def _same_thing(self, there: StoredEvent, event: Event) -> StoredEvent | None:
        verified = await self._verified(there)
        if isinstance(verified, RefusedEvent):
            return None
        said = verified.event
        could_be_ours = self._policy.refusal(said.role, parse(event.subject)) is None
        return verified if could_be_ours and (said.id, said.run) == (event.id, event.run) else None

    async def read(self, subject_filter: str, *, after: int = 0) -> AsyncGenerator[Received]:
        """Yield what the log holds now, after a stream sequence, in order.

        Raises:
            BusUnreachable: the broker went away meanwhile.
        """
        position = after
        while True:
            consumer, pending = await self._make_reader(subject_filter, position)
            if pending == 0:
                return
            expected = 1
            async with aclosing(pull(self.connection, consumer, batch=READ_BATCH)) as messages:
                async for message in messages:
                    if message.metadata.sequence.consumer != expected:
                        raise BusUnreachable(
                            f"the broker did not deliver message {expected} of a read"
                        )
                    expected += 1
                    received = await self.check(message)
                    position = received.stream_sequence
                    yield received
                    if message.metadata.num_pending == 0:
                        return
                    if _ends_answers(message):
                        break

    async def follow(self, subject_filter: str, *, after: int = 0) -> AsyncGenerator[Received]:
        """Yield what the log holds after a stream sequence, then what comes, endlessly.

        A broker that restarts or forgets the reader is waited for; the reader continues
        after the last event it yielded.

        Raises:
            BusUnreachable: the connection was closed on our side.
        """
        position = after
        while True:
            try:
                consumer, _ = await self._make_reader(subject_filter, position)
                expected = 1
                async with aclosing(pull(self.connection, consumer, batch=READ_BATCH)) as messages:
                    async for message in messages:
                        if message.metadata.sequence.consumer != expected:
                            break
                        expected += 1
                        received = await self.check(message)
                        position = received.stream_sequence
                        yield received
                        if _ends_answers(message):
                            break
            except BusUnreachable as error:
                if self.connection.is_closed:
                    raise
                log.info("bus.reader_restarts", after=position, reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def last_sequence(self) -> int:
        """The stream sequence of the last stored event, 0 for an empty log.

        Raises:
            BusUnreachable: no answer.
        """
        with reachable():
            info = await self.connection.manager.stream_info(STREAM)
        return info.state.last_seq

    async def last_on(self, subject: str) -> Received | None:
        """The last event on one exact subject, verified; None where there is none.

        Raises:
            BusUnreachable: no answer.
        """
        message = await self.connection.last_message(subject)
        return None if message is None else await self._verified(fetched(message))

    async def check(self, message: Msg) -> Received:
        """Parse and verify a message of a consumer.

        Raises:
            BusUnreachable: the sender's credential could not be looked up.
        """
        return await self._verified(delivered(message))

    async def record_refusal(self, refused: RefusedEvent) -> None:
        """Put on record that an event was refused; however many readers say so, once.

        Raises:
            PublishError: the record could not be stored.
        """
        log.warning(
            "event.refused",
            stream_sequence=refused.stream_sequence,
            subject=refused.subject,
            code=refused.error.code,
        )
        payload = EventRefused(
            stream_sequence=refused.stream_sequence,
            subject=refused.subject[:512],
            digest=sha256(refused.data).hexdigest(),
            code=refused.error.code,
            reason=str(refused.error)[:1_000],
        )
        await self.append(
            Draft(
                run=refused.run,
                payload=payload,
                id=derive_id("event.refused", str(refused.stream_sequence)),
            )
        )

    async def _verified(self, received: Received) -> Received:
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
            event.payload()
        except (UntrustedEvent, MalformedEvent) as error:
            return refused_event(event, received.stream_sequence, received.stored_at, error)
        except IdentityError as error:
            unknown = UnknownKey(str(error))
            return refused_event(event, received.stream_sequence, received.stored_at, unknown)
        return received

    async def _look_up(self, public_key: str) -> Admitted | None:
        """Find the credential of a key where the authority first announced it.

        A later announcement changes nothing: what was valid in the log stays valid.
        """
        try:
            subject = subject_for(SYSTEM_RUN, IdentityIssued.TYPE, public_key)
        except SubjectMismatch as error:
            raise UnknownKey(f"{public_key[:80]!r} is not a key") from error
        position = 0
        while message := await self.connection.next_message(subject, after=position):
            announced = fetched(message)
            position = announced.stream_sequence
            token = _announced_credential(announced, public_key)
            if token is not None:
                return self._trust.admit(token, position)
        return None

    async def _make_reader(self, subject_filter: str, after: int) -> tuple[str, int]:
        name = f"read-{uuid4().hex}"
        config = ConsumerConfig(
            name=name,
            filter_subject=subject_filter,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=READER_LIFE_S,
            mem_storage=True,
            num_replicas=1,
        )
        with reachable():
            info = await self.connection.manager.add_consumer(STREAM, config)
        return name, info.num_pending or 0


def _ends_answers(message: Msg) -> bool:
    """Whether the broker passes on no more answers of a pull to the account that asked.

    To it, a message of nothing at all is the end of the answers that cross accounts.
    """
    return not message.data and not message.headers


def _expectation(expected: Expected | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(expected.stream_sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": expected.subject_filter,
    }


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


def _translated(refusal: StreamRefusal, event: Event) -> PublishError:
    if refusal.code in _WRONG_LAST_SEQUENCE:
        return PublishConflict(f"{event.type} of run {event.run}: {refusal.description}")
    return PublishError(f"the stream refused {event.type}: {refusal.description} ({refusal.code})")
