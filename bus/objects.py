"""Payloads too large for an event: put in chunks before it, fetched and checked with it.

The chunks of an object are stored once: the stream refuses a second message on a
subject. An object whose event was never published harms nobody and goes with its run.
"""

import asyncio
from contextlib import suppress
from typing import Final

from nats.js.errors import NotFoundError

from bus.connection import Connection, StreamRefusal, reachable
from bus.errors import (
    BusUnreachable,
    LogFull,
    ObjectMismatch,
    ObjectMissing,
    PublishError,
    PublishUnconfirmed,
)
from bus.event import Event
from bus.reference import ALL_OBJECTS, CHUNK_BYTES, OBJECTS, ObjectReference, chunk_subject

CHUNKS_AT_ONCE: Final = 8
ATTEMPT_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.1
RESTORE_DEADLINE_S: Final = 30.0


class ObjectStore:
    """The objects as one member sees them: it puts its own, and gets anybody's."""

    def __init__(self, connection: Connection, key: str, *, deadline_s: float) -> None:
        """Wrap a connection.

        Args:
            connection: to the broker.
            key: the public key that the connection's credential is for.
            deadline_s: how long `put` tries to store one chunk.
        """
        self._connection = connection
        self._key = key
        self._deadline_s = deadline_s

    async def put(self, run: str, content: bytes) -> None:
        """Store what an event of the run is going to refer to; repeating it does no harm.

        Raises:
            PayloadTooLarge: over 16 MiB.
            PublishUnconfirmed: the broker did not confirm in time; the event must wait.
            PublishDenied, LogFull: the broker refuses.
        """
        reference = ObjectReference.to(content)
        at_once = asyncio.Semaphore(CHUNKS_AT_ONCE)

        async def put(number: int) -> None:
            subject = chunk_subject(run, self._key, reference.digest, number)
            start = number * CHUNK_BYTES
            async with at_once:
                await self._put_chunk(subject, content[start : start + CHUNK_BYTES])

        puts = [asyncio.ensure_future(put(n)) for n in range(len(reference.chunk_sizes))]
        try:
            await asyncio.gather(*puts)
        finally:
            for unfinished in puts:
                unfinished.cancel()
            await asyncio.gather(*puts, return_exceptions=True)

    async def fetch(self, event: Event) -> Event:
        """The event with its payload's bytes, as it is where it holds them or was given them.

        Raises:
            ObjectMissing: it is not all there.
            ObjectMismatch: what is there is not what the event refers to.
            BusUnreachable: no answer from the broker.
        """
        reference = event.reference
        if reference is None:
            return event
        if event.content is not None:
            reference.check(event.content)
            return event
        content = await fetch_object(self._connection, event.run, event.key, reference)
        return event.with_content(content)

    async def _put_chunk(self, subject: str, chunk: bytes) -> None:
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        while True:
            try:
                return await self._publish(subject, chunk)
            except (PublishUnconfirmed, BusUnreachable) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise PublishUnconfirmed(str(error)) from error
                await asyncio.sleep(RETRY_S)

    async def _publish(self, subject: str, chunk: bytes) -> None:
        try:
            await self._connection.publish(subject, chunk, {}, timeout_s=ATTEMPT_TIMEOUT_S)
        except StreamRefusal as refusal:
            if await _chunk_at(self._connection, subject) == chunk:
                return  # an earlier try stored it
            if refusal.is_full:
                raise LogFull(f"there is no room for an object: {refusal}") from refusal
            raise PublishError(f"the stream refused an object: {refusal}") from refusal


async def has_objects(connection: Connection) -> bool:
    """Whether there is a stream of objects at all, empty or not.

    Raises:
        BusUnreachable: no answer from the broker.
    """
    with reachable(), suppress(NotFoundError):
        await connection.manager.find_stream_name_by_subject(ALL_OBJECTS)
        return True
    return False


async def fetch_object(
    connection: Connection, run: str, key: str, reference: ObjectReference
) -> bytes:
    """What a key has put for a run, found to be what the reference says.

    Raises:
        ObjectMissing: it is not all there.
        ObjectMismatch: what is there is something else.
        BusUnreachable: no answer from the broker.
    """
    parts: list[bytes] = []
    sizes = reference.chunk_sizes

    async def fetch(number: int) -> bytes:
        subject = chunk_subject(run, key, reference.digest, number)
        chunk = await _chunk_at(connection, subject)
        if chunk is None:
            raise ObjectMissing(f"chunk {number} of {reference} is not there")
        if len(chunk) != sizes[number]:
            raise ObjectMismatch(f"chunk {number} of {reference} has {len(chunk)} bytes")
        return chunk

    for start in range(0, len(sizes), CHUNKS_AT_ONCE):
        numbers = range(start, min(start + CHUNKS_AT_ONCE, len(sizes)))
        parts += await asyncio.gather(*map(fetch, numbers))
    content = b"".join(parts)
    reference.check(content)
    return content


async def restore_object(connection: Connection, run: str, key: str, content: bytes) -> None:
    """Put back what a key had put, in place of what is left of it.

    Args:
        connection: with a credential of the log's own account that may purge objects and
            publish them under any key.
        run: of the event that refers to it.
        key: that signed the event.
        content: checked by the caller.

    Raises:
        BusUnreachable, PublishError: it was not put back entirely; do it again.
    """
    digest = ObjectReference.to(content).digest
    with reachable():
        await connection.manager.purge_stream(OBJECTS, subject=f"obj.{run}.{key}.{digest}.>")
    await ObjectStore(connection, key, deadline_s=RESTORE_DEADLINE_S).put(run, content)


async def _chunk_at(connection: Connection, subject: str) -> bytes | None:
    message = await connection.last_message(subject, stream=OBJECTS)
    return None if message is None else message.data
