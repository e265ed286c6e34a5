"""A run that the coordinator has in memory, and when it counts as standing still. Pure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from actors.command import AssignStep
from actors.fact import fact_of, later
from actors.run_state import RunState, evolve
from actors.waiting import waits_for
from bus.errors import SwarmError
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import StallNoticed

DEFECT: Final = "defect"
"""Code of the notice that a run stands still by a fault of the coordinator's own."""
_TEXT_CHARS: Final = 500


@dataclass(slots=True)
class OpenRun:
    """A run as far as it was read."""

    state: RunState = field(default_factory=RunState)
    position: int = 0
    """Stream sequence of its last event."""
    last_id: str = ""
    """Id of the last event that moved it: a notice that nothing moves does not."""
    is_noticed: bool = False
    """Whether the log says that it stands still since that event."""
    refused_at: int = -1
    """Its position when the stream last refused a decision."""
    defect: Exception | None = None
    """Our own fault, that met something in this run: it is not read on, and nothing is decided."""
    is_defect_told: bool = False
    """Whether the log says so."""

    def take(self, stored: StoredEvent) -> bool:
        """Fold the event, unless it was folded before; whether it was not."""
        if not self.skip(stored.stream_sequence):
            return False
        fact = fact_of(stored)
        if self.defect is None:
            with self.alone():
                self.state = evolve(self.state, fact)
        if isinstance(fact.payload, StallNoticed):
            self.is_noticed = self.is_noticed or fact.cause == self.last_id
            self.is_defect_told = self.is_defect_told or fact.payload.code == DEFECT
        else:
            self.last_id, self.is_noticed = fact.id, False
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What fails with this run by a fault of ours is kept as its defect: others go on."""
        try:
            yield
        except SwarmError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is that nobody reckoned with
            self.defect = error

    def skip(self, stream_sequence: int) -> bool:
        """Go past an event that nobody believes; whether that was not done before.

        The stream counts it all the same when it is asked whether anything happened.
        """
        if stream_sequence <= self.position:
            return False
        self.position = stream_sequence
        return True

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be said of it unless another fact comes."""
        return self.state.ended is not None and not self.state.refusals


def stalls_at(run: OpenRun, now: datetime, started_at: datetime, stall_s: float) -> datetime | None:
    """When nothing will have moved in the run for too long; None if that is as it should be.

    Args:
        run: whose last fact counts.
        now: in UTC.
        started_at: when the coordinator began to watch; before, nobody could move anything.
        stall_s: how many seconds are too long.
    """
    state = run.state
    if run.is_noticed or state.ended or state.submission is None:
        return None
    if state.paused or _waits_for_approval(state, now):
        return None
    return later(max(state.moved_at or started_at, started_at), stall_s)


def _waits_for_approval(state: RunState, now: datetime) -> bool:
    """Whether a person has to answer, and nobody else has anything to do."""
    is_asked = any(approval.status == "pending" for approval in state.approvals.values())
    return is_asked and waits_for(state, now).code == "approval"


def stall_notice(run: OpenRun, now: datetime, queued: Sequence[AssignStep]) -> Draft:
    """Say what a run waits for that stands still: once after each event that moved it.

    Args:
        run: that stands still.
        now: in UTC.
        queued: assignments that are held back because too many others of their roles are out.
    """
    state = run.state
    payload = _queued(state, now, queued) if queued else _waiting(state, now)
    return _notice(run, state.run, payload, derive_id("stall.noticed", state.run, run.last_id))


def defect_notice(run: OpenRun, run_id: str, now: datetime) -> Draft:
    """Say that a run stands still by a fault of ours, until a coordinator without it comes."""
    kind = type(run.defect).__name__
    payload = StallNoticed(
        code=DEFECT,
        waits_for=f"a coordinator that can read it: this one met {kind}, see its log",
        since=run.state.moved_at or now,
    )
    event_id = derive_id("stall.noticed", run_id, DEFECT, run.last_id)
    return _notice(run, run_id, payload, event_id)


def _notice(run: OpenRun, run_id: str, payload: StallNoticed, event_id: str) -> Draft:
    submission = run.state.submission
    return Draft(
        run=run_id,
        payload=payload,
        id=event_id,
        cause=run.last_id,
        on_behalf_of=submission.on_behalf_of if submission else None,
        traceparent=submission.traceparent if submission else None,
    )


def _waiting(state: RunState, now: datetime) -> StallNoticed:
    waiting = waits_for(state, now)
    return StallNoticed(
        code=waiting.code,
        waits_for=waiting.text[:_TEXT_CHARS],
        since=waiting.since,
        step=waiting.step,
    )


def _queued(state: RunState, now: datetime, queued: Sequence[AssignStep]) -> StallNoticed:
    steps = ", ".join(f"{command.step} ({command.role})" for command in queued)
    text = f"as many assignments are out as the agents should have before them: {steps} waits"
    return StallNoticed(
        code="queued",
        waits_for=text[:_TEXT_CHARS],
        since=state.moved_at or now,
        step=queued[0].step,
    )
