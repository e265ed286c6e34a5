"""Pulling from a JetStream consumer: one inbox, renewed requests, heartbeats watched.

Source: NATS ADR-37 (simplified clients): a pull request with an idle heartbeat, so
that silence for more than two beats means that the consumer or the broker is gone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import lru_cache
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from bus.connection import Connection
from bus.errors import BusUnreachable
from bus.listener import Inbox
from bus.subjects import STREAM

HEARTBEAT_S: Final = 0.5
_SILENCE_S: Final = 2.5 * HEARTBEAT_S
_NANOSECONDS: Final = 1_000_000_000
_HEARTBEAT: Final = "100"
_REQUEST_ENDED: Final = frozenset({"404", "408"})
_CONFLICT: Final = "409"
_RENEWABLE: Final = ("batch completed", "exceeds", "leadership", "server shutdown")


async def pull(connection: Connection, consumer: str, *, batch: int) -> AsyncGenerator[Msg]:
    """Yield messages of a consumer as they come, endlessly.

    Args:
        connection: whose credential may ask this consumer for messages.
        consumer: its name.
        batch: messages asked for at once; 1 for work that takes long.

    Raises:
        BusUnreachable: the consumer or the broker fell silent; make it anew and go on.
    """
    async with aclosing(pull_arrived(connection, consumer, batch=batch)) as arrivals:
        async for arrived in arrivals:
            for message in arrived:
                yield message


async def pull_arrived(
    connection: Connection, consumer: str, *, batch: int
) -> AsyncGenerator[list[Msg]]:
    """Like `pull`: whatever has arrived, at least one message at a time."""
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
    # Not `next_msg`: on Python 3.11 its asyncio.wait_for loses a cancellation that comes
    # together with a message (python/cpython#86296); asyncio.timeout does not.
    async with connection.open_inbox() as inbox:
        try:
            while True:
                request = _request(batch, connection.longest_request_s)
                await inbox.ask(connection.client, subject, request)
                left, has_ended = batch, False
                while left > 0 and not has_ended:
                    arrived, has_ended = await _arrived(inbox, left)
                    left -= len(arrived)
                    if arrived:
                        yield arrived
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BusUnreachable(
                f"consumer {consumer} is silent: {type(error).__name__}"
            ) from error


async def _arrived(inbox: Inbox, most: int) -> tuple[list[Msg], bool]:
    """Messages of the stream that are there, after waiting for something; whether no more come."""
    arrived: list[Msg] = []
    if inbox.arrived.empty():
        async with asyncio.timeout(_SILENCE_S):
            message = await inbox.arrived.get()
    else:
        message = inbox.arrived.get_nowait()
    while True:
        status = _status(message) if inbox.is_control(message) else None
        if status is None:
            arrived.append(message)
        elif status != _HEARTBEAT:
            return arrived, True
        if len(arrived) == most or inbox.arrived.empty():
            return arrived, False
        message = inbox.arrived.get_nowait()


@lru_cache(maxsize=16)
def _request(batch: int, stands_s: float) -> bytes:
    beat_s = min(HEARTBEAT_S, stands_s / 2)  # the broker wants two of them at least
    return json.dumps(
        {
            "batch": batch,
            "expires": int(stands_s * _NANOSECONDS),
            "idle_heartbeat": int(beat_s * _NANOSECONDS),
        }
    ).encode()


def _status(message: Msg) -> str | None:
    """The status of a control message; None for a message of the stream."""
    headers = message.headers
    if headers is None or "Status" not in headers or message.data:
        return None
    status = headers["Status"]
    if status in _REQUEST_ENDED or status == _HEARTBEAT:
        return status
    description = headers.get("Description", "").lower()
    if status == _CONFLICT and any(reason in description for reason in _RENEWABLE):
        return status
    raise BusUnreachable(f"the consumer ended the request: {status} {description}")
