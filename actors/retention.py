"""Which runs may leave the stream. Pure.

A run goes only when it is over and every event of it is in the audit log. What has to go
goes oldest first: what is older than it may get, and, where a stream fills up, as much as
brings it below its mark. Events of the system's own run, identities among them, stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.payloads import RetryRequested, RunFailed
from bus.subjects import is_reserved
from storage.trims import AuditedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long ended runs stay in the stream.

    Attributes:
        max_age_s: seconds after its last event that a run stays at most; None: for as long
            as there is room.
        settle_s: seconds after its last event that it stays at least: somebody may still be
            reading, or saying a last thing about it.
        high_water: share of a stream's bound from which on runs leave it early.
        low_water: share that it is then brought down to.
    """

    max_age_s: float | None = None
    settle_s: float = 300.0
    high_water: float = 0.8
    low_water: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes that a stream holds, and its bound."""

    used_bytes: int
    max_bytes: int

    def to_free(self, rules: Rules) -> int:
        """Bytes to get rid of; 0 or less below the mark."""
        if self.used_bytes < self.max_bytes * rules.high_water:
            return 0
        return self.used_bytes - int(self.max_bytes * rules.low_water)


def to_trim(
    runs: Iterable[AuditedRun], *, rules: Rules, now: datetime, events: Room, objects: Room
) -> tuple[AuditedRun, ...]:
    """The runs to trim now.

    Args:
        runs: those with an end in the audit log, oldest first.
        rules: how long they stay.
        now: by the clock that stamps what is stored.
        events: what the stream of events holds.
        objects: what that of objects holds.
    """
    events_to_free, objects_to_free = events.to_free(rules), objects.to_free(rules)
    chosen = []
    for run in runs:
        age = now - run.last_stored_at
        if not is_over(run) or age < timedelta(seconds=rules.settle_s):
            continue
        too_old = rules.max_age_s is not None and age >= timedelta(seconds=rules.max_age_s)
        makes_room = events_to_free > 0 or (objects_to_free > 0 and run.object_bytes > 0)
        if too_old or makes_room:
            chosen.append(run)
            events_to_free -= run.event_bytes
            objects_to_free -= run.object_bytes
    return tuple(chosen)


def is_over(run: AuditedRun) -> bool:
    """Whether nothing can happen in the run any more unless somebody retries it.

    A run that failed and was asked to go on is not over; one that completed or was cancelled
    is, whatever is asked of it afterwards.
    """
    over = False
    failed = False
    for event_type in run.life:
        failed = event_type == RunFailed.TYPE
        over = over or (not failed and event_type != RetryRequested.TYPE)
    return not is_reserved(run.run) and (over or failed)
