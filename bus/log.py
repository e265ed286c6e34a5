"""The event log: append signed events, read them back verified.

Delivery of `read` and `follow`: in the order of the log, each event once, none left
out. What does not verify is yielded as a RefusedEvent, so that a reader sees that
something stood there and goes on.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import structlog
from nats.aio.msg import Msg

from bus.appender import Appender, Expected
from bus.connection import Connection, reachable
from bus.errors import BusUnreachable, ConsumptionDenied
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.identity import Credential
from bus.objects import ObjectStore
from bus.payloads import EventRefused
from bus.policy import PublishRules
from bus.pull import pull_arrived
from bus.reader import READ_BATCH, drain, make_reader
from bus.received import Received, RefusedEvent, delivered, fetched
from bus.signature_checks import SignatureChecks, checked
from bus.signing import Consumption, MemberPolicy, Sender
from bus.subjects import ALL_EVENTS, STREAM
from bus.trust import TrustStore
from bus.trust_log import changes_beside, is_change
from bus.vault import SubjectKeys, Vault
from bus.verifier import Verifier

__all__ = ["EventLog", "Expected"]

log = structlog.get_logger()

RESTART_S: Final = 0.1


class Check(Protocol):
    """Says of what was received whether it may be acted on."""

    async def __call__(self, received: Received, *, is_signed: bool = False) -> Received:
        """See `Verifier.check`."""
        ...


class EventLog:
    """The log as one sender and reader sees it."""

    def __init__(
        self,
        connection: Connection,
        trust: TrustStore,
        policy: MemberPolicy,
        sender: Sender,
        *,
        keys: SubjectKeys | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        """Wrap a connection.

        Args:
            connection: to the broker, with the sender's credential.
            trust: whom to believe.
            policy: what the sender may publish; what others may, the log says.
            sender: signs what `append` is given.
            keys: of the persons whom events are about; without any, nothing is sealed, and
                what is sealed stays so.
            deadline_s: how long `append` tries to learn the outcome.
        """
        self.connection = connection
        self.sender = sender
        self._policy = policy
        self._objects = ObjectStore(connection, sender.key.public, deadline_s=deadline_s)
        self._vault = Vault(keys)
        self._verifier = Verifier(connection, trust, self._objects, self._vault)
        self._appender = Appender(connection, self._verifier, policy, sender, deadline_s=deadline_s)

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        """`Appender.append`: sign an event and store it durably, its object before it.

        What is personal in it is sealed before.
        """
        draft = await self._vault.sealed(draft)
        if draft.needs_object:
            await self._objects.put(draft.run, draft.body)
        return await self._appender.append(draft, expected=expected)

    async def read(
        self, subject_filter: str, *, after: int = 0, unseal: bool = True
    ) -> AsyncGenerator[Received]:
        """Yield what the log holds now, after a stream sequence, in order.

        Args:
            subject_filter: with NATS wildcards.
            after: the stream sequence before the first that is wanted.
            unseal: whether what is sealed is wanted; it takes the key of each person.

        Raises:
            ConsumptionDenied: the policy does not let this role read.
            BusUnreachable: the broker went away meanwhile.
        """
        self.require("read")
        position = after
        check = await self._checking(subject_filter, after)
        if not unseal:
            check = partial(self._verifier.check, unseal=False)
        while True:
            consumer, pending = await make_reader(self.connection, subject_filter, position)
            if pending == 0:
                return
            async with aclosing(drain(self.connection, consumer)) as messages:
                async for message in messages:
                    received = await check(delivered(message))
                    position = received.stream_sequence
                    yield received
                    if message.metadata.num_pending == 0:
                        return
                    if _ends_answers(received):
                        break
                else:
                    return  # what is still counted cannot be read

    async def follow(self, subject_filter: str, *, after: int = 0) -> AsyncGenerator[Received]:
        """Yield what the log holds after a stream sequence, then what comes, endlessly.

        A broker that restarts or forgets the reader is waited for; the reader continues
        after the last event it yielded.

        Raises:
            ConsumptionDenied: the policy does not let this role read.
            BusUnreachable: the connection was closed on our side.
        """
        position = after
        while True:
            try:
                async with aclosing(self.follow_once(subject_filter, after=position)) as events:
                    async for received in events:
                        position = received.stream_sequence
                        yield received
            except BusUnreachable as error:
                if self.connection.is_closed:
                    raise
                log.info("bus.reader_restarts", after=position, reason=str(error))
                await asyncio.sleep(RESTART_S)

    async def follow_once(
        self, subject_filter: str, *, after: int = 0, checks: SignatureChecks | None = None
    ) -> AsyncGenerator[Received]:
        """Like `follow`, up to where the reader has to be made anew.

        For a reader who must know: the broker may have come back with another log.

        Args:
            subject_filter: with NATS wildcards.
            after: the stream sequence before the first that is wanted.
            checks: take the checking of signatures off this process, where much arrives.

        Raises:
            ConsumptionDenied: the policy does not let this role read.
            BusUnreachable: the reader broke.
        """
        self.require("read")
        changes = changes_beside(subject_filter)
        check = await self._checking(subject_filter, after, is_given_changes=bool(changes))
        consumer, _ = await make_reader(self.connection, subject_filter, after, beside=changes)
        arrivals = _arrivals(self.connection, consumer)
        async with aclosing(arrivals), aclosing(checked(arrivals, checks)) as events:
            async for received, is_signed in events:
                # Yielded where it ends the answers: the next reader has to begin behind it.
                ends = _ends_answers(received)
                if changes and is_change(received.subject) and not ends:
                    await self._verifier.meet(received)
                    continue
                yield await check(received, is_signed=is_signed)
                if ends:
                    return

    async def renew(self, credential: Credential) -> None:
        """Go on under another credential of the same key; the chain goes on as well.

        Raises:
            BusUnreachable: no connection in time; the old credential still counts.
        """
        await self.connection.change(credential)
        self.sender.credential = credential

    async def _checking(
        self, subject_filter: str, after: int, *, is_given_changes: bool = False
    ) -> Check:
        """How a reader of the subjects checks what comes to it, in its order."""
        if subject_filter != ALL_EVENTS and not is_given_changes:
            return self._verifier.check
        await self._verifier.begin_after(after)
        return self._verifier.check_next

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
        return None if message is None else await self._verifier.check(fetched(message))

    async def next_on(self, subject_filter: str, *, after: int) -> Received | None:
        """The first event after a stream sequence on a subject, which may have wildcards.

        Verified; None where there is none. Needs no consumer, so that any member may ask.

        Raises:
            BusUnreachable: no answer.
        """
        message = await self.connection.next_message(subject_filter, after=after)
        return None if message is None else await self._verifier.check(fetched(message))

    async def check(self, message: Msg) -> Received:
        """Parse and verify a message of a consumer.

        Raises:
            BusUnreachable: the sender's credential could not be looked up.
        """
        return await self._verifier.check(delivered(message))

    async def check_recorded(self, received: Received) -> Received:
        """Verify what is kept elsewhere, as of the place of the log where it stood.

        Raises:
            BusUnreachable: the sender's credential could not be looked up.
        """
        return await self._verifier.check(received)

    def require(self, what: Consumption) -> None:
        """See that the policy lets this role read, or take assignments; the broker does too.

        Raises:
            ConsumptionDenied: it does not.
        """
        refusal = self._policy.consumption_refusal(self.sender.credential.role, what)
        if refusal is not None:
            raise ConsumptionDenied(f"{self.sender.source} may not {what}: {refusal}")

    async def policy_in_force(self) -> PublishRules | None:
        """The policy that the authority adopted last, None if it has adopted none.

        Raises:
            BusUnreachable: the log does not answer.
        """
        return await self._verifier.policy_in_force()

    async def keeps(self, subject: str) -> bool:
        """Whether what is personal of a person is kept: not if that person is forgotten.

        Raises:
            SubjectKeyUnavailable: the authority does not answer.
        """
        return await self._vault.keeps(subject)

    async def opened(self, event: Event) -> Event:
        """An accepted event that was kept elsewhere, with what is sealed in it.

        Raises:
            MalformedEvent: it was not sealed under that person's key for that event.
            SubjectKeyUnavailable: the authority does not answer.
        """
        return await self._vault.opened(event)

    async def vouched(self, public_key: str) -> Credential | None:
        """The credential under which a key counts now, None for a key that does not.

        Raises:
            BusUnreachable: the log does not answer.
        """
        return await self._verifier.vouched(public_key, place=await self.last_sequence())

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


async def _arrivals(connection: Connection, consumer: str) -> AsyncGenerator[list[Received]]:
    """Yield what a consumer delivers, as it arrives, up to where a message is missing."""
    expected = 1
    async with aclosing(pull_arrived(connection, consumer, batch=READ_BATCH)) as pulled:
        async for arrived in pulled:
            parsed = []
            for message in arrived:
                if message.metadata.sequence.consumer != expected:
                    break
                parsed.append(delivered(message))
                expected += 1
            yield parsed
            if len(parsed) < len(arrived):
                return


def _ends_answers(received: Received) -> bool:
    """Whether the broker passes on no more answers of a pull to the account that asked.

    To it, a message of nothing at all is the end of the answers that cross accounts.
    """
    return isinstance(received, RefusedEvent) and not received.data and not received.headers
