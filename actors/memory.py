"""The runs that a coordinator has in memory: those that have not ended.

A run that has ended is forgotten. If something is said of it afterwards that may call for an
answer, it is read from the log again; so is one that is submitted under a name that may have
been used, because the stream does not know ids for ever.
"""

import hashlib
from collections import OrderedDict
from contextlib import aclosing
from typing import Final

from actors.open_run import OpenRun
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import (
    ResultRefused,
    RetryRequested,
    RunSubmitted,
    StepCompleted,
    StepFailed,
)
from bus.received import Received, RefusedEvent
from bus.subjects import run_filter

REMEMBERED: Final = 4_096
"""Ends whose place is remembered: so far behind may our own reader be."""
_NAMES_BYTES: Final = 1 << 20
_ANYTHING: Final = ""
"""In place of the id of an outcome: what follows can only be told from the whole run."""


class Names:
    """All names that were ever added, in a fixed space: one is now and then taken for another.

    A Bloom filter (Bloom 1970): of a million names one in fifty looks as if it was there.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_NAMES_BYTES)

    def add(self, name: str) -> bool:
        """Add a name; whether it surely was not there."""
        digest = hashlib.sha256(name.encode()).digest()
        is_new = False
        for start in range(0, 20, 4):
            byte, bit = divmod(int.from_bytes(digest[start : start + 4]), 8)
            byte %= _NAMES_BYTES
            is_new = is_new or not self._bits[byte] >> bit & 1
            self._bits[byte] |= 1 << bit
        return is_new


class Memory:
    """What is known of the runs that go on.

    Attributes:
        runs: by id.
        unread: runs that are not in memory and that something was said of, and what.
    """

    def __init__(self) -> None:
        self.runs: dict[str, OpenRun] = {}
        self.unread: dict[str, set[str]] = {}
        self._names = Names()
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._arriving: dict[str, list[Received]] = {}

    def take(self, received: Received) -> bool:
        """Fold an event; whether it says anything new of a run in memory."""
        run_id = received.event.run if isinstance(received, StoredEvent) else received.run
        if run_id in self._arriving:
            self._arriving[run_id].append(received)
        run = self.runs.get(run_id)
        if run is not None:
            return _fold(run, received)
        if isinstance(received, RefusedEvent):
            return False
        if received.stream_sequence <= self._ended.get(run_id, 0):
            return False
        if self._names.add(run_id) and received.event.type == RunSubmitted.TYPE:
            run = self.runs[run_id] = OpenRun()
            return run.take(received)
        self._note(run_id, received)
        return False

    def _note(self, run_id: str, stored: StoredEvent) -> None:
        """Remember whether something was said of a forgotten run that has no answer yet."""
        payload = stored.payload()
        match payload:
            case StepCompleted() | StepFailed():
                self.unread.setdefault(run_id, set()).add(stored.event.id)
            case RunSubmitted() | RetryRequested():
                self.unread.setdefault(run_id, set()).add(_ANYTHING)
            case ResultRefused(refused=refused) if run_id in self.unread:
                self.unread[run_id].discard(refused)
                if not self.unread[run_id]:
                    del self.unread[run_id]

    def close(self, run_id: str) -> None:
        """Forget a run that is over; nothing up to its last event is looked at again."""
        run = self.runs.pop(run_id)
        self._ended[run_id] = run.position
        self._ended.move_to_end(run_id)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    async def read(self, log: EventLog, run_id: str) -> OpenRun:
        """Take a run into memory as the log has it.

        Raises:
            BusUnreachable: the log could not be read.
        """
        run = OpenRun()
        arrived = self._arriving.setdefault(run_id, [])
        try:
            async with aclosing(log.read(run_filter(run_id))) as events:
                async for received in events:
                    _fold(run, received)
        finally:
            del self._arriving[run_id]
        for received in arrived:
            _fold(run, received)
        self.unread.pop(run_id, None)
        self.runs[run_id] = run
        return run


def _fold(run: OpenRun, received: Received) -> bool:
    if isinstance(received, RefusedEvent):
        return run.skip(received.stream_sequence)
    return run.take(received)
