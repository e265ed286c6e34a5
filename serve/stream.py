"""The events of a run as server-sent events that can be resumed anywhere.

The id of each is its place in the log, so "after this one" means the same to every
gateway and after every restart: nothing has to be remembered between connections.
Source: WHATWG HTML, section 9.2, server-sent events.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from bus.errors import SwarmError
from bus.event import SIGNATURE_HEADER, StoredEvent
from bus.payloads import RetryRequested, RunCancelled, RunCompleted, RunFailed
from bus.received import Received
from bus.subjects import run_filter
from serve.ports import Limits, Log

log = structlog.get_logger()

MEDIA_TYPE: Final = "text/event-stream"
REFUSED: Final = "refused"
HEARTBEAT: Final = b": heartbeat\n\n"
ENDS: Final = frozenset({RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE})
"""One of these ends a run; after a failure a retry takes it up again."""
_PAYLOAD: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


class EventView(BaseModel):
    """One event of the log as people get it; of a refused one no more than why it was."""

    model_config = ConfigDict(frozen=True)
    stream_sequence: int
    stored_at: datetime
    type: str = Field(description="The event's type, or 'refused'.")
    subject: str
    id: str | None = None
    source: str | None = None
    time: datetime | None = None
    sequence: int | None = Field(None, description="The sender's own counter.")
    cause: str | None = None
    on_behalf_of: str | None = None
    key: str | None = Field(None, description="The sender's public NKey.")
    signature: str | None = Field(None, description="Ed25519, base64url.")
    payload: dict[str, JsonValue] | None = None
    erased: bool | None = Field(
        None, description="True where what is personal in the payload cannot be read any more."
    )
    code: str | None = Field(None, description="Why it was refused, in one word.")
    reason: str | None = Field(None, description="Why it was refused.")


def view_of(received: Received) -> EventView:
    """What people get to see of an event. What a refused one claims is not repeated."""
    if not isinstance(received, StoredEvent):
        return EventView(
            stream_sequence=received.stream_sequence,
            stored_at=received.stored_at,
            type=REFUSED,
            subject=received.subject[:512],
            code=received.error.code,
            reason=str(received.error)[:1_000],
        )
    event = received.event
    return EventView(
        stream_sequence=received.stream_sequence,
        stored_at=received.stored_at,
        type=event.type,
        subject=event.subject,
        id=event.id,
        source=event.source,
        time=event.time,
        sequence=event.sequence,
        cause=event.cause,
        on_behalf_of=event.on_behalf_of,
        key=event.key,
        signature=event.headers[SIGNATURE_HEADER],
        payload=_PAYLOAD.validate_json(event.body),
        erased=event.is_erased or None,
    )


def frame(received: Received) -> bytes:
    """One server-sent event; JSON has no line breaks, so the data is one line."""
    view = view_of(received)
    data = view.model_dump_json(exclude_none=True)
    return f"id: {view.stream_sequence}\nevent: {view.type}\ndata: {data}\n\n".encode()


def ends_run(received: Received) -> bool:
    """Whether this event ends its run, as long as nobody retries that; a refused one never does."""
    return isinstance(received, StoredEvent) and received.event.type in ENDS


def last_retry(events: Iterable[Received]) -> int:
    """The stream sequence of the last retry, 0 for none: what ended the run before, did not."""
    return max(
        (
            received.stream_sequence
            for received in events
            if isinstance(received, StoredEvent) and received.event.type == RetryRequested.TYPE
        ),
        default=0,
    )


async def until_end(
    events: AsyncIterator[Received], *, retried: int = 0
) -> AsyncGenerator[bytes, None]:
    """Frames of the events, up to and with the one that ends the run.

    Args:
        events: of one run, in the order of the log.
        retried: the `last_retry` known of; an end before it is passed over.
    """
    async for received in events:
        yield await _written_out(received)
        if ends_run(received) and received.stream_sequence > retried:
            return


async def with_heartbeats(
    frames: AsyncIterator[bytes], *, interval_s: float, life_s: float
) -> AsyncGenerator[bytes, None]:
    """The frames, and a comment whenever none came for a while; over after `life_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + life_s
    coming = asyncio.create_task(_next(frames))
    try:
        while (left_s := deadline - loop.time()) > 0:
            done, _ = await asyncio.wait({coming}, timeout=min(interval_s, left_s))
            if not done:
                yield HEARTBEAT
                continue
            arrived = coming.result()
            if arrived is None:
                return
            coming = asyncio.create_task(_next(frames))
            yield arrived
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def run_events(
    events: Log, run: str, *, after: int, limits: Limits, retried: int = 0
) -> AsyncGenerator[bytes, None]:
    """The stream of one run from after a place in the log: no gap, no repeat.

    It ends with the run, after `stream_life_s`, or where the log cannot be read any
    more; whoever has not seen the run's end comes back with the last id.
    """
    try:
        async with (
            aclosing(events.follow(run_filter(run), after=after)) as received,
            aclosing(until_end(received, retried=retried)) as frames,
            aclosing(
                with_heartbeats(frames, interval_s=limits.heartbeat_s, life_s=limits.stream_life_s)
            ) as beating,
        ):
            async for piece in beating:
                yield piece
    except SwarmError as error:
        log.warning("stream.broken", run=run, code=error.code, reason=str(error))


async def while_welcome(
    pieces: AsyncGenerator[bytes, None], welcome: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    """The pieces, as long as whoever asked for them may have them.

    Asked before each piece, which is as often as every heartbeat: who is barred meanwhile
    gets nothing more. It goes on where nobody can say.
    """
    async with aclosing(pieces):
        async for piece in pieces:
            try:
                if not await welcome():
                    return
            except SwarmError as error:
                log.warning("stream.unchecked", code=error.code)
            yield piece


async def _written_out(received: Received) -> bytes:
    """Its frame; what needed an object to hold it is written out beside the event loop."""
    if isinstance(received, StoredEvent) and received.event.reference is not None:
        return await asyncio.to_thread(frame, received)
    return frame(received)


async def _next(frames: AsyncIterator[bytes]) -> bytes | None:
    return await anext(frames, None)
