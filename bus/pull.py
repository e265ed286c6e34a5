"""Pulling from a JetStream consumer: one inbox, renewed requests, heartbeats watched.

Source: NATS ADR-37 (simplified clients): a pull request with an idle heartbeat, so
that silence for more than two beats means that the consumer or the broker is gone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.connection import Connection, reachable
from bus.errors import BusUnreachable
from bus.subjects import STREAM

HEARTBEAT_S: Final = 0.5
_SILENCE_S: Final = 2.5 * HEARTBEAT_S
_NANOSECONDS: Final = 1_000_000_000
_HEARTBEAT: Final = "100"
_REQUEST_ENDED: Final = frozenset({"404", "408"})
_CONFLICT: Final = "409"
_RENEWABLE: Final = ("batch completed", "exceeds", "leadership", "server shutdown")


async def pull(
    connection: Connection, consumer: str, *, batch: int, expires_s: float = 30.0
) -> AsyncGenerator[Msg]:
    """Yield messages of a consumer as they come, endlessly.

    Args:
        connection: whose credential may ask this consumer for messages.
        consumer: its name.
        batch: messages asked for at once; 1 for work that takes long.
        expires_s: how long one request stands before it is renewed.

    Raises:
        BusUnreachable: the consumer or the broker fell silent; make it anew and go on.
    """
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
    inbox = connection.new_inbox()
    request = json.dumps(
        {
            "batch": batch,
            "expires": int(expires_s * _NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT_S * _NANOSECONDS),
        }
    ).encode()
    # Not `next_msg`: on Python 3.11 its asyncio.wait_for loses a cancellation that comes
    # together with a message (python/cpython#86296); asyncio.timeout does not.
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    with reachable():
        subscription = await connection.client.subscribe(inbox, cb=arrived.put)
    try:
        while True:
            await connection.client.publish(subject, request, reply=inbox)
            received = 0
            while received < batch:
                async with asyncio.timeout(_SILENCE_S):
                    message = await arrived.get()
                # What a sender wrote into a stored message's headers is no control message.
                status = _status(message) if message.subject == inbox else None
                if status == _HEARTBEAT:
                    continue
                if status is not None:
                    break
                received += 1
                yield message
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise BusUnreachable(f"consumer {consumer} is silent: {type(error).__name__}") from error
    finally:
        await _unsubscribe(subscription)


async def _unsubscribe(subscription: Subscription) -> None:
    """Stop listening. A connection that is closed listens no more; a cancellation goes on."""
    with suppress(nats.errors.Error, OSError):
        await subscription.unsubscribe()


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
