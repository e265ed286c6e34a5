"""What must exist on the broker before the first event: one stream and the work queues."""

from collections.abc import Mapping
from typing import Final

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from bus.connection import Connection, reachable
from bus.subjects import ALL_EVENTS, ASSIGNED, STREAM

DUPLICATE_WINDOW_S: Final = 600.0
"""How long the stream remembers ids; covers a restart of any part."""
_MAX_IN_WORK: Final = 10_000
_STREAM_EXISTS_OTHERWISE: Final = 10058


async def provision(
    connection: Connection, *, queues: Mapping[str, str], lease_s: float, max_bytes: int
) -> None:
    """Create the stream and the queues, or bring them to this configuration.

    The stream keeps everything: a full store refuses new events instead of dropping old
    ones, and nobody may delete or purge.

    Args:
        connection: of a credential that may provision.
        queues: name of the durable consumer by role.
        lease_s: seconds until an assignment without heartbeat goes to another agent.
        max_bytes: bound of the stream.

    Raises:
        BusUnreachable: the broker did not answer.
    """
    stream = StreamConfig(
        name=STREAM,
        subjects=[ALL_EVENTS],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=max_bytes,
        duplicate_window=DUPLICATE_WINDOW_S,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        num_replicas=1,
    )
    with reachable():
        try:
            await connection.manager.add_stream(stream)
        except BadRequestError as error:
            if error.err_code != _STREAM_EXISTS_OTHERWISE:
                raise
            await connection.manager.update_stream(stream)
        for role, queue in queues.items():
            config = ConsumerConfig(
                name=queue,
                durable_name=queue,
                filter_subject=f"evt.*.*.{ASSIGNED}.{role}.>",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=lease_s,
                max_ack_pending=_MAX_IN_WORK,
            )
            await connection.manager.add_consumer(STREAM, config)
