"""What the stream holds, message by message, as it stands: nothing is verified here.

For those who compare the log with a copy of it. The stream's own account of itself is not
enough: nats-server 2.15 passes over a message that it cannot read (a flipped bit) without a
word, and goes on counting it.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from nats.js.errors import NotFoundError

from bus.connection import Connection, reachable
from bus.errors import BusUnreachable
from bus.reader import ANSWER_TIMEOUT_S, drain, make_reader
from bus.received import Received, delivered
from bus.subjects import ALL_EVENTS, STREAM
from bus.wire import STATUS_HEADER

SCANNER_LIFE_S: Final = 5.0
"""Scans come often and readers may not remove what they made: the broker does, soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """What the stream says of itself.

    Attributes:
        first_sequence: of the oldest message that it counts.
        last_sequence: of the newest; 0 for an empty stream that never held any.
        removed: how many between them it knows to be gone.
        stored_bytes: on disk, as it counts them; max_bytes the bound, None without one.
        made: when the stream was made, as the broker writes it: another one was made anew.
    """

    first_sequence: int
    last_sequence: int
    removed: int
    stored_bytes: int
    max_bytes: int | None
    made: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How much work of a queue nobody has taken yet, and how much is being worked on."""

    waiting: int
    in_work: int


async def stream_state(connection: Connection) -> StreamState | None:
    """The stream as it describes itself; None where there is none.

    Raises:
        BusUnreachable: no answer.
    """
    answer = await _stream_info(connection, {})
    if answer is None:
        return None
    state, limit = answer["state"], int(answer["config"].get("max_bytes", -1))
    return StreamState(
        first_sequence=int(state["first_seq"]),
        last_sequence=int(state["last_seq"]),
        removed=int(state.get("num_deleted", 0)),
        stored_bytes=int(state["bytes"]),
        max_bytes=limit if limit > 0 else None,
        made=str(answer["created"]),
    )


async def removed_sequences(connection: Connection) -> list[int]:
    """The sequences between the first and the last that the stream knows to be gone.

    Raises:
        BusUnreachable: no answer.
    """
    answer = await _stream_info(connection, {"deleted_details": True})
    return [] if answer is None else [int(n) for n in answer["state"].get("deleted") or ()]


async def queue_depth(connection: Connection, queue: str) -> QueueDepth | None:
    """How long a work queue is; None where there is none of that name.

    Raises:
        BusUnreachable: no answer.
    """
    with reachable():
        try:
            info = await connection.manager.consumer_info(STREAM, queue)
        except NotFoundError:
            return None
    return QueueDepth(waiting=info.num_pending or 0, in_work=info.num_ack_pending or 0)


async def stored(
    connection: Connection, *, after: int, until: int, subjects: str = ALL_EVENTS
) -> AsyncGenerator[Received]:
    """Yield what the stream can read of the sequences after + 1 to until, in order.

    What it cannot read is left out. A message whose headers have no form of ours is yielded as
    a RefusedEvent; whether an event may be believed is not looked at.

    Raises:
        BusUnreachable: the broker went away meanwhile.
    """
    position = after
    while position < until:
        reader, pending = await make_reader(connection, subjects, position, life_s=SCANNER_LIFE_S)
        if not pending:
            return
        async with aclosing(drain(connection, reader)) as messages:
            async for message in messages:
                sequence = message.metadata.sequence.stream
                if sequence > until:
                    return
                position = sequence
                yield delivered(message)
                if not message.data and not message.headers:
                    break  # to the broker, that ends the answers which cross accounts
            else:
                return


async def _stream_info(connection: Connection, question: dict[str, Any]) -> dict[str, Any] | None:
    body = json.dumps(question).encode()
    with reachable():
        message = await connection.client.request(
            f"$JS.API.STREAM.INFO.{STREAM}", body, timeout=ANSWER_TIMEOUT_S
        )
    if STATUS_HEADER in (message.headers or {}):
        raise BusUnreachable("nobody answers for the stream")
    answer: dict[str, Any] = json.loads(message.data)
    error = answer.get("error")
    if error is None:
        return answer
    if error.get("code") == 404:  # noqa: PLR2004 - the code of the API for "no such stream"
        return None
    raise BusUnreachable(f"the broker cannot describe the stream: {error.get('description')}")
