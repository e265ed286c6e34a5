"""A short-lived consumer that reads the log in order and acknowledges nothing."""

from typing import Final
from uuid import uuid4

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus.connection import Connection, reachable
from bus.subjects import STREAM

READER_LIFE_S: Final = 60.0
"""A reader that is not asked for messages for so long is removed by the broker."""


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
        BusUnreachable: no answer.
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
        info = await connection.manager.add_consumer(STREAM, config)
    return name, info.num_pending or 0
