"""What must exist on the broker before the first event: one stream and the work queues."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from bus.connection import Connection, reachable
from bus.subjects import ALL_EVENTS, ASSIGNED, STREAM

DUPLICATE_WINDOW_S: Final = 600.0
"""How long the stream remembers ids; covers a restart of any part."""
ANSWER_TIMEOUT_S: Final = 60.0
"""For each answer: creating a stream waits for the disk, which may be busy for seconds just
after an installation."""
_MAX_IN_WORK: Final = 10_000


async def provision(
    connection: Connection, *, queues: Mapping[str, str], lease_s: float, max_bytes: int
) -> None:
    """Create the stream and the queues, or bring them to this configuration.

    The stream keeps everything: a full store refuses new events instead of dropping old
    ones, and nobody may delete or purge.

    Args:
        connection: of a launcher's credential, which is of the log's own account.
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
    manager = connection.client.jsm(timeout=ANSWER_TIMEOUT_S)
    with reachable():
        try:
            there = (await manager.stream_info(STREAM)).config
        except NotFoundError:
            await manager.add_stream(stream)
        else:
            # Only a real change is asked for: the broker counts the bound of a stream that is
            # asked for again as if it came on top of what is stored.
            if any(getattr(there, name) != wanted for name, wanted in _given(stream)):
                await manager.update_stream(stream)
        for role, queue in queues.items():
            config = ConsumerConfig(
                name=queue,
                durable_name=queue,
                filter_subject=f"evt.*.*.{ASSIGNED}.{role}.>",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=lease_s,
                max_ack_pending=_MAX_IN_WORK,
            )
            await manager.add_consumer(STREAM, config)


def _given(config: StreamConfig) -> list[tuple[str, object]]:
    """The settings that we decide on; the broker fills in the others."""
    return [(name, value) for name, value in asdict(config).items() if value is not None]
