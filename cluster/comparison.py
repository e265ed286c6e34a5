"""The whole stream against the whole audit log, and the audit log against itself."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass

from actors.loss import Difference, difference
from actors.watch import STRETCH, compare_stretch
from bus.connection import Connection
from bus.errors import MalformedEvent, SequenceError
from bus.event import Event
from bus.received import Received
from bus.scan import stored, stream_state
from bus.trust import ChainTracker
from storage.audit_reader import AuditReader
from storage.audit_rows import AuditEvent
from storage.merkle import Frontier, leaf_hash

_MOST_COMPLAINTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a comparison found.

    Attributes:
        recorded: events of the audit log; last_recorded the stream sequence of the last.
        last_sequence: where the stream stands; None where there is no stream.
        lost: recorded events that the stream must hold and does not, in order.
        unrecorded: what the stream holds and the audit log does not have there, in order.
    """

    recorded: int
    last_recorded: int
    last_sequence: int | None
    lost: tuple[Difference, ...]
    unrecorded: tuple[Received, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """The audit log checked against itself.

    Attributes:
        altered: what does not add up: never to be trusted, nor refilled from.
        broken_chains: gaps that senders' chains had when they were audited, as sentences.
    """

    altered: tuple[str, ...]
    broken_chains: tuple[str, ...]


async def assess(connection: Connection, audit: AuditReader) -> Assessment:
    """Compare everything, event by event.

    Raises:
        BusUnreachable: the broker does not answer.
        StorageError: the audit log does not.
    """
    reach = await audit.reach()
    state = await stream_state(connection)
    end, last = reach.stream_sequence, 0 if state is None else state.last_sequence
    lost: list[Difference] = []
    unrecorded: list[Received] = []
    both = min(end, last)
    for after in range(0, both, STRETCH):
        until = min(after + STRETCH, both)
        found = await compare_stretch(connection, audit, after=after, until=until)
        lost += found.lost
        unrecorded += found.unrecorded
    position = both
    while rows := await audit.owed(after=position, until=end):
        lost += [difference(row.record, "missing") for row in rows]
        position = rows[-1].record.stream_sequence
    if last > end:
        async with aclosing(stored(connection, after=end, until=last)) as messages:
            unrecorded += [received async for received in messages]
    return Assessment(
        recorded=reach.size,
        last_recorded=end,
        last_sequence=None if state is None else last,
        lost=tuple(lost),
        unrecorded=tuple(unrecorded),
    )


async def check_audit_log(audit: AuditReader) -> SelfCheck:
    """Rebuild every leaf, the tree and each sender's chain from the recorded bytes.

    Raises:
        StorageError: the audit log does not answer.
    """
    reach = await audit.reach()
    frontier, chains = Frontier(), ChainTracker()
    altered: list[str] = []
    broken: list[str] = []
    position = 0
    while rows := await audit.stretch(after=position, until=reach.stream_sequence):
        position = rows[-1].record.stream_sequence
        hashes = await asyncio.to_thread(_leaf_hashes, rows)
        altered += [
            f"the row of stream sequence {row.record.stream_sequence} was altered"
            for row, rebuilt in zip(rows, hashes, strict=True)
            if row.leaf_hash != rebuilt
        ]
        frontier, _ = frontier.append(hashes)
        broken += _broken_chains(rows, chains)
    if (frontier.size, frontier.root()) != (reach.size, reach.root):
        altered.append("the rows do not lead to the recorded root")
    return SelfCheck(
        altered=tuple(altered[:_MOST_COMPLAINTS]), broken_chains=tuple(broken[:_MOST_COMPLAINTS])
    )


def _leaf_hashes(rows: Iterable[AuditEvent]) -> list[bytes]:
    return [leaf_hash(row.leaf.encode()) for row in rows]


def _broken_chains(rows: Iterable[AuditEvent], chains: ChainTracker) -> Iterable[str]:
    for row in rows:
        record = row.record
        if record.verdict == "refused":
            continue
        try:
            chains.follow(Event.parse(record.subject, dict(record.raw_headers), record.data))
        except (SequenceError, MalformedEvent) as error:
            yield f"{record.stream_sequence}: {error}"
