"""Making the stream anew, message by message, on the very sequences that they had.

Needs a connection with a credential of the log's own account, and a stream that nobody else
writes to. Until `end`, the stream also takes placeholders, on a subject that no member
reaches: by that a stream is known that is only half filled.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from bus.connection import Connection, reachable
from bus.errors import BusUnreachable, RefillFailed
from bus.identity import Permissions
from bus.reference import ALL_OBJECTS
from bus.subjects import ALL_EVENTS, STREAM
from bus.wire import WireClient

BATCH: Final = 500
ANSWER_TIMEOUT_S: Final = 60.0
PLACEHOLDER: Final = "refill.placeholder"
MESSAGE_ID: Final = "Nats-Msg-Id"
_WINDOW_S: Final = 0.1
"""The shortest time for which a stream remembers ids: an old log may repeat one, later."""
_REMEMBERED: Final = 50_000

REFILL_PERMISSIONS: Final = ("$JS.API.>", ALL_EVENTS, ALL_OBJECTS, PLACEHOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of the stream, as it is to stand there again.

    Attributes:
        sequence: in the stream.
        stored_at: when it was first stored, where that is to be told to those who read it.
        headers: as received, in order, with those that the broker reads.
    """

    sequence: int
    subject: str
    headers: tuple[tuple[str, str], ...]
    data: bytes
    stored_at: datetime | None = None

    @property
    def message_id(self) -> str | None:
        """By what the stream would take a second one for a repeat."""
        return next((value for name, value in self.headers if name == MESSAGE_ID), None)

    @property
    def commands(self) -> bool:
        """Whether its sender asks the broker for more than to know a repeat."""
        return any(_is_brokers(name) and name != MESSAGE_ID for name, _ in self.headers)

    @property
    def plain(self) -> "Message":
        """The same without what the broker reads."""
        ours = tuple(header for header in self.headers if not _is_brokers(header[0]))
        return replace(self, headers=ours)


def permissions(inbox: str) -> Permissions:
    """What the credential of a refill must allow."""
    return Permissions(publish=REFILL_PERMISSIONS, subscribe=(f"{inbox}.>",))


async def is_half_filled(connection: Connection) -> bool:
    """Whether a refill of the stream has begun and not ended.

    Raises:
        BusUnreachable: no answer.
    """
    with reachable(), suppress(NotFoundError):
        config = (await connection.manager.stream_info(STREAM)).config
        return PLACEHOLDER in (config.subjects or ())
    return False


class Refill:
    """One making of the stream, from `begin` to `end`."""

    def __init__(self, connection: Connection) -> None:
        client = connection.client
        if not isinstance(client, WireClient):
            raise TypeError("a refill needs a connection that this program opened")
        self._client = client
        self._manager = client.jsm(timeout=ANSWER_TIMEOUT_S)
        self._inbox = client.new_inbox()
        self._answers: asyncio.Queue[Msg] = asyncio.Queue()
        self._batch: list[Message] = []
        self._ids: set[str] = set()
        self._last = 0

    async def begin(self) -> None:
        """Delete the stream and make an empty one, which forgets nothing and forbids nothing.

        Raises:
            BusUnreachable: the broker did not answer.
        """
        config = StreamConfig(
            name=STREAM,
            subjects=[ALL_EVENTS, PLACEHOLDER],
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            duplicate_window=_WINDOW_S,
            allow_direct=True,
            num_replicas=1,
        )
        with reachable():
            with suppress(NotFoundError):
                await self._manager.delete_stream(STREAM)
            await self._manager.add_stream(config)
            await self._client.subscribe(f"{self._inbox}.*", cb=self._answers.put)

    async def put(self, message: Message) -> None:
        """Add a message on its sequence; what lies before it becomes a gap.

        Messages come in rising order. They are sent in batches: only `end` says that all are
        stored.

        Raises:
            RefillFailed: the stream did not take one, or not there.
            BusUnreachable: the broker did not answer.
        """
        await self.skip_to(message.sequence)
        if message.message_id is not None:
            await self._forget_ids(message.message_id)
        if message.commands:
            await self._put_alone(message)
        else:
            await self._add(message)

    async def skip_to(self, sequence: int) -> None:
        """Leave a gap, so that the next message gets the sequence.

        Raises:
            RefillFailed: it is taken.
            BusUnreachable: the broker did not answer.
        """
        if sequence <= self._last:
            raise RefillFailed(f"sequence {sequence} is taken: the stream is at {self._last}")
        for empty in range(self._last + 1, sequence):
            await self._add(Message(sequence=empty, subject=PLACEHOLDER, headers=(), data=b""))

    async def end(self) -> None:
        """Return once everything is stored; the placeholders are gone.

        Raises:
            RefillFailed: the stream did not take a message, or not on its sequence.
            BusUnreachable: the broker did not answer.
        """
        await self._flush()
        with reachable():
            await self._manager.purge_stream(STREAM, subject=PLACEHOLDER)

    async def _add(self, message: Message) -> None:
        self._batch.append(message)
        self._last = message.sequence
        if len(self._batch) >= BATCH:
            await self._flush()

    async def _forget_ids(self, coming: str) -> None:
        """Wait until the stream has forgotten an id that comes once more."""
        if coming in self._ids or len(self._ids) >= _REMEMBERED:
            await self._flush()
            await asyncio.sleep(2 * _WINDOW_S)
            self._ids.clear()
        self._ids.add(coming)

    async def _put_alone(self, message: Message) -> None:
        """A message that tells the broker what to do: without that, where it will not do it."""
        await self._flush()
        self._last = message.sequence
        try:
            await self._send([message])
        except RefillFailed:
            await self._send([message.plain])

    async def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            await self._send(batch)

    async def _send(self, batch: Sequence[Message]) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                for message in batch:
                    reply = f"{self._inbox}.{message.sequence}"
                    await self._client.publish_as_received(
                        message.subject, reply, message.headers, message.data
                    )
                for _ in batch:
                    _check(await self._answers.get())
        except TimeoutError as error:
            raise BusUnreachable("the broker did not confirm a refill") from error


def _is_brokers(name: str) -> bool:
    return name.lower().startswith("nats-")


def _check(answer: Msg) -> None:
    wanted = answer.subject.rpartition(".")[2]
    said = json.loads(answer.data)
    if "error" in said or said.get("duplicate") or str(said.get("seq")) != wanted:
        raise RefillFailed(f"message {wanted} was not stored in its place: {said}")
