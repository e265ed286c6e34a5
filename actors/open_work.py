"""Which assignments are still to be answered: where a work queue that is made anew begins.

Pure. Beginning earlier than needed does no harm: an agent that gets an assignment which has a
result puts it aside. Where something cannot be read, the assignment counts as open; whose it
is, its subject says too.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bus.errors import MalformedEvent, SubjectMismatch
from bus.event import StoredEvent
from bus.payloads import (
    ResultRefused,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepAssigned,
    StepCompleted,
    StepFailed,
    StepPayload,
)
from bus.subjects import parse

_Attempt: TypeAlias = tuple[str, str, int, int, int]
"""Role, step, iteration, item and attempt."""
_TYPES: Final = frozenset(
    model.TYPE
    for model in (
        ResultRefused,
        RunCancelled,
        RunCompleted,
        RunFailed,
        StepAssigned,
        StepCompleted,
        StepFailed,
    )
)


@dataclass(slots=True)
class _Run:
    """A run that has not ended: where its assignments stand, which are open, which answered.

    By role, where the first assignment stands that cannot be read.
    """

    given: dict[_Attempt, int] = field(default_factory=dict)
    open: set[_Attempt] = field(default_factory=set)
    results: dict[str, _Attempt] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)


class OpenWork:
    """Follows the events of a log in their order."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def note(self, stored: StoredEvent) -> None:
        """Take the next accepted event."""
        event = stored.event
        if event.type not in _TYPES:
            return
        try:
            payload = stored.payload()
        except MalformedEvent:
            self._note_unread(stored)
            return
        run = self._runs.setdefault(event.run, _Run())
        match payload:
            case StepAssigned():
                attempt = _attempt(payload.role, payload)
                run.given.setdefault(attempt, stored.stream_sequence)
                run.open.add(attempt)
            case StepCompleted() | StepFailed():
                attempt = _attempt(event.role, payload)
                run.results[event.id] = attempt
                run.open.discard(attempt)
            case ResultRefused() if payload.refused in run.results:
                run.open.add(run.results[payload.refused])
            case RunCompleted() | RunFailed() | RunCancelled():
                del self._runs[event.run]  # one that is retried assigns anew
            case _:
                pass

    def starts(self) -> Mapping[str, int]:
        """The stream sequence of the first open assignment of each role that has one."""
        first: dict[str, int] = {}
        for run in self._runs.values():
            open_ones = [
                (attempt[0], run.given[attempt]) for attempt in run.open & run.given.keys()
            ]
            for role, sequence in (*open_ones, *run.unread.items()):
                first[role] = min(sequence, first.get(role, sequence))
        return first

    def _note_unread(self, stored: StoredEvent) -> None:
        event = stored.event
        with suppress(SubjectMismatch):
            role = parse(event.subject).role
            if event.type == StepAssigned.TYPE and role is not None:
                run = self._runs.setdefault(event.run, _Run())
                run.unread.setdefault(role, stored.stream_sequence)


def _attempt(role: str, payload: StepPayload) -> _Attempt:
    return role, payload.step, payload.iteration, payload.item, payload.attempt
