"""Taking a run out of the streams; only a launcher's credential may."""

from typing import Final

from bus.connection import Connection, reachable
from bus.payloads import RetryRequested
from bus.reference import OBJECTS, objects_filter
from bus.subjects import STREAM, run_filter, subject_for

ANSWER_TIMEOUT_S: Final = 30.0
"""Purging by subject looks through the blocks of the store."""


async def stream_bytes(connection: Connection, stream: str) -> tuple[int, int]:
    """Bytes that a stream holds, and its bound.

    Raises:
        BusUnreachable: no answer.
    """
    with reachable():
        info = await connection.manager.stream_info(stream)
    return info.state.bytes, info.config.max_bytes or 0


async def can_be_trimmed(connection: Connection, stream: str = STREAM) -> bool:
    """Whether the stream lets anybody purge: one of an earlier version never does.

    Raises:
        BusUnreachable: no answer.
    """
    with reachable():
        return not (await connection.manager.stream_info(stream)).config.deny_purge


async def goes_on(connection: Connection, run: str, *, after: int) -> bool:
    """Whether the stream holds anything of a run after a stream sequence.

    Raises:
        BusUnreachable: no answer.
    """
    return await connection.next_message(run_filter(run), after=after) is not None


async def was_reopened(connection: Connection, run: str, *, after: int) -> bool:
    """Whether the stream holds a retry of a run after a stream sequence.

    Raises:
        BusUnreachable: no answer.
    """
    retries = subject_for(run, RetryRequested.TYPE)
    return await connection.next_message(retries, after=after) is not None


async def purge_run(connection: Connection, run: str, *, up_to: int) -> None:
    """Remove the run's events up to a stream sequence, then its objects if nothing is left.

    Raises:
        BusUnreachable: no answer; do it again.
    """
    manager = connection.client.jsm(timeout=ANSWER_TIMEOUT_S)
    with reachable():
        await manager.purge_stream(STREAM, seq=up_to + 1, subject=run_filter(run))
    if not await goes_on(connection, run, after=0):
        with reachable():
            await manager.purge_stream(OBJECTS, subject=objects_filter(run))
