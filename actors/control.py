"""What people ask of a run, folded into its state. Pure.

A wish counts while it makes sense: only a run that has not ended can be paused, resumed or
cancelled, only a failed one can be retried, and the first answer to a question stands.
"""

from dataclasses import replace

from actors.entry import Approval, Assignment, Failure, Key, Wish
from actors.fact import Fact
from actors.record import RunState
from bus.payloads import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    CancelRequested,
    PauseRequested,
    Request,
    ResumeRequested,
    RetryRequested,
    RunFailed,
)

RETRIED = "run_retried"
"""Code of an attempt that was under way when its run failed, and is over by the retry."""


def wished(state: RunState, fact: Fact, request: Request) -> RunState:
    """The state after a request of a person."""
    wish = Wish(
        id=fact.id,
        at=fact.time,
        requested_by=request.requested_by,
        reason=request.reason,
        sealed_for=fact.sealed_for,
    )
    if isinstance(request, ApprovalGiven | ApprovalDenied):
        return _answered(state, request, wish)
    if isinstance(request, RetryRequested):
        return _reopened(state, wish) if isinstance(state.ended, RunFailed) else state
    return state if state.ended else _steered(state, request, wish)


def asked(state: RunState, fact: Fact, question: ApprovalRequested) -> RunState:
    """The state after people were asked whether a step may begin."""
    key = question.step, question.iteration, question.item
    if key in state.approvals:
        return state
    approval = Approval(id=fact.id, at=fact.time)
    return replace(state, approvals={**state.approvals, key: approval})


def _answered(state: RunState, answer: ApprovalGiven | ApprovalDenied, wish: Wish) -> RunState:
    for key, approval in state.approvals.items():
        if approval.id == answer.approval and approval.status == "pending":
            is_given = isinstance(answer, ApprovalGiven)
            told = replace(approval, status="given" if is_given else "denied", answer=wish)
            return replace(state, approvals={**state.approvals, key: told})
    return state


def _steered(state: RunState, request: Request, wish: Wish) -> RunState:
    match request:
        case CancelRequested():
            return replace(state, cancel=state.cancel or wish)
        case PauseRequested():
            return replace(state, pause=state.pause or wish)
        case ResumeRequested():
            return replace(state, pause=None)
        case _:
            return state


def _reopened(state: RunState, wish: Wish) -> RunState:
    """Forgive what failed, and ask anew what was denied.

    The wish to go on is the latest one: an earlier wish to pause or to cancel is over.
    """
    return replace(
        state,
        ended=None,
        ended_at=None,
        pause=None,
        cancel=None,
        reopened=wish,
        retries=state.retries + 1,
        assignments={
            key: _forgiven(state, key, assignment, wish)
            for key, assignment in state.assignments.items()
        },
        approvals={
            key: approval
            for key, approval in state.approvals.items()
            if approval.status != "denied"
        },
    )


def _forgiven(state: RunState, key: Key, assignment: Assignment, wish: Wish) -> Assignment:
    """The assignment as it is over and does not count, unless it has its result.

    One that was under way is over too: what its agent said since the end was refused, so
    nobody may be working on it any more.
    """
    if key in state.results:
        return assignment
    interrupted = Failure(
        id=wish.id,
        at=wish.at,
        code=RETRIED,
        message="the run was retried while the attempt was under way",
        retryable=True,
    )
    return replace(
        assignment,
        forgiven=assignment.attempt,
        failure=assignment.failure or interrupted,
    )
