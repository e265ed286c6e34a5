"""What a person's request comes to, judged by the state of the run. Pure.

Each request becomes one event, or none where what is asked for is so already. The id of
the event depends on what it answers: sent twice, it is one; asked again after things have
moved on, it is another.
"""

from dataclasses import dataclass
from typing import Final

from bus.event import Draft, StoredEvent, derive_id
from bus.log import Expected
from bus.payloads import (
    ApprovalDenied,
    ApprovalGiven,
    CancelRequested,
    PauseRequested,
    Request,
    ResumeRequested,
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
)
from bus.received import Received
from bus.subjects import group_filter, kind_of, subject_for
from serve.approvals import ApprovalView
from serve.known_run import KnownRun
from serve.problems import Conflict

_TURNS: Final = frozenset(
    kind.TYPE
    for kind in (
        RunSubmitted,
        CancelRequested,
        PauseRequested,
        ResumeRequested,
        RetryRequested,
        RunCompleted,
        RunFailed,
        RunCancelled,
    )
)
"""What a request about a run answers: the last of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, and why.

    Attributes:
        user: their id, on whose behalf the event is.
        name: for people to read.
        reason: may be empty.
    """

    user: str
    name: str
    reason: str


def cancel(known: KnownRun, by: Asker) -> Draft | None:
    """The request to end a run; None if that is on its way, or done.

    Raises:
        Conflict: it has ended otherwise.
    """
    state = known.state
    if state.status == "cancelled" or (state.cancel and state.ended is None):
        return None
    if state.ended is not None:
        raise Conflict(f"The run cannot be cancelled: it has {state.status}.")
    return _draft(known, by, CancelRequested)


def pause(known: KnownRun, by: Asker) -> Draft | None:
    """The request to begin no further step; None if the run is paused.

    Raises:
        Conflict: it has ended, or is about to be cancelled.
    """
    _require_going(known, "paused")
    if known.state.paused:
        return None
    return _draft(known, by, PauseRequested)


def resume(known: KnownRun, by: Asker) -> Draft:
    """The request to let a paused run go on.

    Raises:
        Conflict: it is not paused.
    """
    _require_going(known, "resumed")
    if not known.state.paused:
        raise Conflict("The run cannot be resumed: it is not paused.")
    return _draft(known, by, ResumeRequested)


def retry(known: KnownRun, by: Asker) -> Draft:
    """The request to take a failed run up again where it failed.

    Raises:
        Conflict: it has not failed, is erased, or has a flaw that a retry would meet again.
    """
    state = known.state
    if state.status != "failed":
        is_so = f"it is {state.status}" if state.ended is None else f"it has {_past(known)}"
        raise Conflict(f"The run cannot be retried: {is_so}; only a failed one can.")
    if known.is_erased:
        raise Conflict("The run cannot be retried: what was said in it is erased.")
    if state.flaw is not None:
        raise Conflict(f"A retry would fail again: {state.flaw.message}.")
    return _draft(known, by, RetryRequested)


def answer(known: KnownRun, approval: ApprovalView, by: Asker, *, give: bool) -> Draft | None:
    """The answer to the question whether a step may begin; None if it was answered so.

    Both answers have one id: whoever comes second has nothing to add.

    Raises:
        Conflict: it was answered otherwise, or the run has ended.
    """
    if approval.status == ("given" if give else "denied"):
        return None
    if approval.status == "lapsed":
        raise Conflict(f"The run has ended ({known.state.status}): the step will not begin.")
    if approval.status != "pending":
        raise Conflict(f"The approval was {approval.status} by {approval.answered_by}.")
    kind = ApprovalGiven if give else ApprovalDenied
    return Draft(
        run=known.id,
        payload=kind(requested_by=by.name, reason=by.reason, approval=approval.id),
        id=derive_id("approval.answered", approval.id),
        cause=approval.id,
        on_behalf_of=by.user,
        traceparent=known.submitted.event.traceparent,
    )


def last_asked_or_answered(known: KnownRun) -> Expected:
    """That nothing about the run's approvals was said since; refused events count as well."""
    about = group_filter(known.id, "approval")
    places = (
        received.stream_sequence
        for received in known.seen
        if _subject_of(received).startswith(about.removesuffix(">"))
    )
    return Expected(subject_filter=about, stream_sequence=max(places, default=0))


def while_there(known: KnownRun) -> Expected:
    """That the run has not left the log meanwhile; refused events count as well."""
    about = subject_for(known.id, RunSubmitted.TYPE)
    places = (each.stream_sequence for each in known.seen if _subject_of(each) == about)
    return Expected(subject_filter=about, stream_sequence=max(places))


def _require_going(known: KnownRun, verb: str) -> None:
    state = known.state
    if state.ended is not None:
        raise Conflict(f"The run cannot be {verb}: it has {_past(known)}.")
    if state.cancel is not None:
        raise Conflict(f"The run cannot be {verb}: it is being cancelled.")


def _past(known: KnownRun) -> str:
    status = known.state.status
    return "been cancelled" if status == "cancelled" else status


def _draft(known: KnownRun, by: Asker, kind: type[Request]) -> Draft:
    payload = kind(requested_by=by.name, reason=by.reason)
    turn = [stored for stored in known.events if stored.event.type in _TURNS][-1].event.id
    return Draft(
        run=known.id,
        payload=payload,
        id=derive_id(kind_of(payload.TYPE), known.id, turn),
        cause=turn,
        on_behalf_of=by.user,
        traceparent=known.submitted.event.traceparent,
    )


def _subject_of(received: Received) -> str:
    return received.event.subject if isinstance(received, StoredEvent) else received.subject
