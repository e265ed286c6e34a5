"""What must exist on the broker before the first event: two streams and the work queues."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import structlog
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from bus.connection import Connection, reachable
from bus.reference import ALL_OBJECTS, CHUNK_BYTES, OBJECTS
from bus.subjects import ALL_EVENTS, ASSIGNED, STREAM

DUPLICATE_WINDOW_S: Final = 600.0
"""How long the stream remembers ids; covers a restart of any part."""
ANSWER_TIMEOUT_S: Final = 60.0
"""For each answer: creating a stream waits for the disk, which may be busy for seconds just
after an installation."""
OBJECTS_SHARE: Final = 0.25
"""Of what JetStream may keep; the rest is for the events."""
_HEADER_BYTES: Final = 1024
"""What a client or the broker may put before a chunk; it counts as part of the message."""
_MAX_IN_WORK: Final = 10_000

log = structlog.get_logger()


async def provision(
    connection: Connection,
    *,
    queues: Mapping[str, str],
    lease_s: float,
    max_bytes: int,
    starts: Mapping[str, int] | None = None,
) -> None:
    """Create the streams and the queues, or bring them to this configuration.

    The streams keep everything: a full store refuses what is new instead of dropping what is
    old. Nobody may delete a message; only a launcher's credential may purge.

    Args:
        connection: of a launcher's credential, which is of the log's own account.
        queues: name of the durable consumer by role.
        lease_s: seconds until an assignment without heartbeat goes to another agent.
        max_bytes: bound of both streams together.
        starts: by role, the stream sequence at which a queue that is made here begins; the
            first event if it is not named. A queue that is there keeps its own.

    Raises:
        BusUnreachable: the broker did not answer.
    """
    for_objects = int(max_bytes * OBJECTS_SHARE)
    manager = connection.client.jsm(timeout=ANSWER_TIMEOUT_S)
    with reachable():
        for stream in (_events(max_bytes - for_objects), _objects(for_objects)):
            await _ensure(manager, stream)
        for role, queue in queues.items():
            config = ConsumerConfig(
                name=queue,
                durable_name=queue,
                filter_subject=f"evt.*.*.{ASSIGNED}.{role}.>",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=lease_s,
                max_ack_pending=_MAX_IN_WORK,
            )
            await _begin(manager, config, (starts or {}).get(role))
            await manager.add_consumer(STREAM, config)


async def _begin(manager: JetStreamManager, config: ConsumerConfig, start: int | None) -> None:
    """Set where a queue begins: for one that is there, the broker refuses another place."""
    try:
        there = (await manager.consumer_info(STREAM, str(config.name))).config
        start = there.opt_start_seq
    except NotFoundError:
        pass
    if start:
        config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
        config.opt_start_seq = start


async def _ensure(manager: JetStreamManager, stream: StreamConfig) -> None:
    try:
        there = (await manager.stream_info(str(stream.name))).config
    except NotFoundError:
        await manager.add_stream(stream)
        return
    if there.deny_purge and not stream.deny_purge:
        # The broker never takes this back; such a stream only ends with its store.
        log.warning("bus.stream_is_not_trimmed", stream=stream.name)
        stream.deny_purge = True
    # Only a real change is asked for: the broker counts the bound of a stream that is asked
    # for again as if it came on top of what is stored.
    if any(getattr(there, name) != wanted for name, wanted in _given(stream)):
        await manager.update_stream(stream)


def _events(max_bytes: int) -> StreamConfig:
    return StreamConfig(
        name=STREAM,
        subjects=[ALL_EVENTS],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=max_bytes,
        duplicate_window=DUPLICATE_WINDOW_S,
        deny_delete=True,
        deny_purge=False,
        allow_direct=True,
        num_replicas=1,
    )


def _objects(max_bytes: int) -> StreamConfig:
    """One message on a subject, for good: nobody replaces a chunk."""
    return StreamConfig(
        name=OBJECTS,
        subjects=[ALL_OBJECTS],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        max_msg_size=CHUNK_BYTES + _HEADER_BYTES,
        max_bytes=max_bytes,
        deny_delete=True,
        deny_purge=False,
        allow_direct=True,
        num_replicas=1,
    )


def _given(config: StreamConfig) -> list[tuple[str, object]]:
    """The settings that we decide on; the broker fills in the others."""
    return [(name, value) for name, value in asdict(config).items() if value is not None]
