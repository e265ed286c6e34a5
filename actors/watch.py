"""Watching the stream: does it still hold what the audit log has copied from it?

Three looks. A glance asks the stream how far it reaches, what it knows to be gone, and for the
last event that was audited. What a glance shows to be wrong is then compared event by event.
And because the stream does not notice that a message has become unreadable, a patrol reads
through all of it, a stretch at a time, over and over.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Protocol

from actors.loss import (
    Comparison,
    Difference,
    Loss,
    compare,
    difference,
    same,
)
from bus.connection import Connection
from bus.errors import BusUnreachable
from bus.received import fetched
from bus.scan import StreamState, removed_sequences, stored, stream_state
from storage.audit_reader import Reach
from storage.audit_rows import AuditEvent
from storage.leaf import AuditRecord

STRETCH: Final = 500
ASKED_FOR: Final = 20
"""Events that a scan did not show are asked for one by one, so many of each stretch."""


class Copy(Protocol):
    """The audit log, as a copy of the stream."""

    async def reach(self) -> Reach:
        """How far it has come."""
        ...

    async def stretch(self, *, after: int, until: int, limit: int = STRETCH) -> list[AuditEvent]:
        """What it has of a stretch of the stream."""
        ...

    async def owed(
        self, *, after: int, until: int, among: Sequence[int] | None = None, limit: int = STRETCH
    ) -> list[AuditEvent]:
        """The same without what was taken out of the stream on purpose."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the stream and the audit log say of themselves.

    Attributes:
        state: of the stream; None where there is none.
        reach: of the audit log.
        last: the last audited event where the stream lacks it and must hold it, else None.
        replaced: whether another stands in its place, be it that it was trimmed.
    """

    state: StreamState | None
    reach: Reach
    last: Difference | None = None
    replaced: bool = False

    @property
    def rewound(self) -> bool:
        """Whether the stream goes on from an earlier place than the audit log has reached.

        What comes then stands on sequences that are taken: it is audited after a recovery.
        """
        shorter = self.state is None or self.state.last_sequence < self.reach.stream_sequence
        return shorter or self.replaced

    @property
    def suspicious(self) -> bool:
        """Whether an event-by-event comparison is called for."""
        return self.rewound or self.last is not None or self.has_gaps

    @property
    def has_gaps(self) -> bool:
        """Whether the stream knows that something is gone, be it on purpose."""
        state = self.state
        return state is not None and (state.removed > 0 or state.first_sequence > 1)


async def glance(connection: Connection, audit: Copy) -> Glance:
    """Look at both ends.

    Raises:
        BusUnreachable: the broker does not answer.
        StorageError: the audit log does not.
    """
    reach = await audit.reach()  # first: the stream goes on growing
    state = await stream_state(connection)
    at = reach.stream_sequence
    if at == 0 or state is None or state.last_sequence < at:
        return Glance(state=state, reach=reach)
    if await _shows(connection, audit, at):
        return Glance(state=state, reach=reach)
    found = await compare_stretch(connection, audit, after=at - 1, until=at)
    return Glance(
        state=state,
        reach=reach,
        last=found.lost[0] if found.lost else None,
        replaced=bool(found.unrecorded),
    )


async def follows_audit(connection: Connection, audit: Copy) -> bool:
    """Whether the stream goes on from where the audit log ends, beyond doubt.

    Only asks for single messages, which a launcher's credential allows.

    Raises:
        BusUnreachable: the broker does not answer.
        StorageError: the audit log does not.
    """
    reach = await audit.reach()
    state = await stream_state(connection)
    at = reach.stream_sequence
    if at == 0:
        return True
    if state is None or state.last_sequence < at:
        return False
    shown = await _shows(connection, audit, at)
    return not await audit.owed(after=at - 1, until=at) if shown is None else shown


async def _shows(connection: Connection, audit: Copy, at: int) -> bool | None:
    """Whether the recorded event stands there; None where nothing that can be read does."""
    message = await connection.message_at(at)
    if message is None:
        return None
    rows = await audit.stretch(after=at - 1, until=at)
    return bool(rows) and same(rows[0].record, fetched(message))


async def compare_stretch(
    connection: Connection, audit: Copy, *, after: int, until: int
) -> Comparison:
    """Compare a stretch of at most `STRETCH` sequences event by event.

    Raises:
        BusUnreachable: the broker does not answer.
        StorageError: the audit log does not.
    """
    rows = await audit.stretch(after=after, until=until)
    async with aclosing(stored(connection, after=after, until=until)) as messages:
        found = [received async for received in messages]
    result = compare([row.record for row in rows], found)
    if not result.lost:
        return result
    among = [lost.stream_sequence for lost in result.lost]
    owed = await audit.owed(after=after, until=until, among=among)
    records = {row.record.stream_sequence: row.record for row in owed}
    lost = [lost for lost in result.lost if lost.stream_sequence in records]
    missing = [records[each.stream_sequence] for each in lost if each.how == "missing"]
    there = {
        record.stream_sequence
        for record in missing[:ASKED_FOR]
        if await _is_there(connection, record)
    }
    if there:  # the scan is not to be believed: what it showed is looked at once more
        raise BusUnreachable(f"a scan passed over {len(there)} events that are there")
    return replace(result, lost=tuple(lost))


async def _is_there(connection: Connection, record: AuditRecord) -> bool:
    """Asked for by itself: that a scan passed an event over is not enough for an alarm."""
    message = await connection.message_at(record.stream_sequence)
    return message is not None and same(record, fetched(message))


class StreamWatch:
    """Looks at one stream again and again and remembers what it has lost."""

    def __init__(self, connection: Connection, audit: Copy) -> None:
        self._connection = connection
        self._audit = audit
        self._patrolled = 0
        self._compared: tuple[object, ...] = ()
        self.loss = Loss(made="")

    async def look(self) -> tuple[Glance, bool]:
        """A glance, and what it calls for; also, whether more is lost than was known.

        Raises:
            BusUnreachable: the broker does not answer.
            StorageError: the audit log does not.
        """
        seen = await glance(self._connection, self._audit)
        made = "" if seen.state is None else seen.state.made
        if made != self.loss.made:
            self.loss, self._compared = Loss(made=made), ()
        if not seen.suspicious:
            return seen, False
        shown = _shown(seen)
        if shown == self._compared:
            return seen, False
        grown = self.loss.add(await self._search(seen))
        self._compared = shown
        return seen, grown

    async def patrol(self) -> bool:
        """Compare the next stretch, from the beginning again after the last one.

        Returns:
            Whether more is lost than was known.

        Raises:
            BusUnreachable: the broker does not answer.
            StorageError: the audit log does not.
        """
        end = (await self._audit.reach()).stream_sequence
        if self._patrolled >= end:
            self._patrolled = 0
        after, until = self._patrolled, min(self._patrolled + STRETCH, end)
        found = await compare_stretch(self._connection, self._audit, after=after, until=until)
        self._patrolled = until
        return self.loss.add(found.lost)

    async def _search(self, seen: Glance) -> list[Difference]:
        """What is lost where the glance was suspicious; the patrol finds what is elsewhere."""
        end = seen.reach.stream_sequence
        if seen.state is None:
            return await self._missing(after=0, until=end)
        last = min(end, seen.state.last_sequence)
        lost = await self._missing(after=last, until=end)
        lost += [] if seen.last is None else [seen.last]
        if seen.has_gaps:
            lost += await self._removed(seen.state, last)
        if seen.rewound:
            lost += await self._overwritten(last)
        return lost

    async def _removed(self, state: StreamState, last: int) -> list[Difference]:
        lost = await self._missing(after=0, until=min(state.first_sequence - 1, last))
        gone = [n for n in await removed_sequences(self._connection) if n <= last]
        for begin in range(0, len(gone), STRETCH):
            among = gone[begin : begin + STRETCH]
            lost += await self._missing(after=among[0] - 1, until=among[-1], among=among)
        return lost

    async def _overwritten(self, last: int) -> list[Difference]:
        """What stands on audited places, from the end back to a stretch that is as it was."""
        lost: list[Difference] = []
        while last > 0:
            after = max(0, last - STRETCH)
            found = await compare_stretch(self._connection, self._audit, after=after, until=last)
            lost += found.lost
            if not found.lost:
                break
            last = after
        return lost

    async def _missing(
        self, *, after: int, until: int, among: Sequence[int] | None = None
    ) -> list[Difference]:
        """What the audit log says the stream must hold there, as missing."""
        lost: list[Difference] = []
        while rows := await self._audit.owed(after=after, until=until, among=among):
            lost += [difference(row.record, "missing") for row in rows]
            after = rows[-1].record.stream_sequence
        return lost


def _shown(seen: Glance) -> tuple[object, ...]:
    """What a search depends on; a stream that was set back and grows is searched now and then."""
    if seen.state is None:
        return (seen.reach.stream_sequence,)
    state = seen.state
    return (
        state.first_sequence,
        state.removed,
        seen.last,
        seen.rewound and (seen.reach.stream_sequence, state.last_sequence // STRETCH),
    )
