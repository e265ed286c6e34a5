"""A short-lived consumer that reads the log in order and acknowledges nothing."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Final
from uuid import uuid4

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from bus.connection import Connection, reachable
from bus.errors import BusUnreachable
from bus.listener import Inbox
from bus.subjects import STREAM
from bus.wire import STATUS_HEADER

READ_BATCH: Final = 256
READER_LIFE_S: Final = 60.0
"""A reader that is not asked for messages for so long is removed by the broker."""
ANSWER_TIMEOUT_S: Final = 5.0
_NO_MORE: Final = frozenset({"404", "408"})


async def make_reader(
    connection: Connection,
    subject_filter: str,
    after: int,
    *,
    beside: tuple[str, ...] = (),
    life_s: float = READER_LIFE_S,
) -> tuple[str, int]:
    """Make a reader of what is stored behind a stream sequence.

    Args:
        connection: whose credential may read.
        subject_filter: with NATS wildcards.
        after: the stream sequence before the first that is wanted.
        beside: further filters, which match nothing that the first one matches.
        life_s: seconds without a request after which the broker removes the reader.

    Returns:
        Its name, and how many messages it has to deliver now.

    Raises:
        BusUnreachable: no answer, or the stream is not there.
    """
    name = f"read-{uuid4().hex}"
    config = ConsumerConfig(
        name=name,
        filter_subject=None if beside else subject_filter,
        filter_subjects=[subject_filter, *beside] if beside else None,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=life_s,
        mem_storage=True,
        num_replicas=1,
    )
    with reachable():
        try:
            info = await connection.manager.add_consumer(STREAM, config)
        except NotFoundError as error:
            raise BusUnreachable("the broker does not have the stream") from error
    return name, info.num_pending or 0


async def drain(connection: Connection, reader: str) -> AsyncGenerator[Msg]:
    """Yield everything that a reader has now, in order, none left out that can be read.

    What the broker cannot read (a flipped bit) it passes over and goes on counting: that is
    not waited for. A message is the last one only if it says that none is pending.

    Raises:
        BusUnreachable: the broker went away, or what it sent did not arrive.
    """
    request = json.dumps({"batch": READ_BATCH, "no_wait": True}).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{reader}"
    delivered = 0
    async with connection.open_inbox() as inbox:
        try:
            while True:
                await inbox.ask(connection.client, subject, request)
                for _ in range(READ_BATCH):
                    message = await _arrived(inbox)
                    if inbox.is_control(message):  # it has no more, or says why
                        _check_end(message)
                        await _check_count(connection, reader, delivered)
                        return
                    delivered += 1
                    if message.metadata.sequence.consumer != delivered:
                        raise BusUnreachable(f"the broker did not deliver message {delivered}")
                    yield message
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BusUnreachable(f"reader {reader} is silent: {type(error).__name__}") from error


async def _arrived(inbox: Inbox) -> Msg:
    if not inbox.arrived.empty():
        return inbox.arrived.get_nowait()
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        return await inbox.arrived.get()


def _check_end(message: Msg) -> None:
    status = (message.headers or {}).get(STATUS_HEADER, "none")
    if status not in _NO_MORE:
        raise BusUnreachable(f"the broker ended a read with status {status}")


async def _check_count(connection: Connection, reader: str, delivered: int) -> None:
    """See that nothing is missing behind the last message that arrived."""
    with reachable():
        info = await connection.manager.consumer_info(STREAM, reader)
    sent = 0 if info.delivered is None else info.delivered.consumer_seq
    if sent != delivered:
        raise BusUnreachable(f"the broker sent {sent} messages of a read, {delivered} came")
