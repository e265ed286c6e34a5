"""What is known of a run: a fold over the facts of its log, in log order.

Pure: no I/O, no clock, no randomness. Any facts in any order lead to a legal state; the
same facts in the same order always lead to the same one, however they are batched.

A result is accepted if it is the first in the log that fits: an answer of the assigned
role, caused by a known claim of the current attempt, under an epoch that no later claim
has fenced off, and of the role's shape. Everything else is kept as a refusal until the
log holds the event that says so. An answer of the wrong shape also ends its attempt.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Final

from pydantic_core import to_json

from actors.errors import AnswerRejected, UnknownRole
from actors.record import (
    Assignment,
    Claim,
    Fact,
    Failure,
    Refusal,
    Result,
    RunState,
    StepStatus,
    Submission,
    fact_of,
)
from actors.roles import role_spec
from bus.payloads import (
    ResultRefused,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
)

__all__ = ["COORDINATOR", "Fact", "RunState", "StepStatus", "evolve", "fact_of", "fold"]

COORDINATOR: Final = "coordinator"
"""The role whose assignments, refusals and run ends count."""

Outcome = StepCompleted | StepFailed


def fold(state: RunState, facts: Iterable[Fact]) -> RunState:
    """The state after all of these facts, which come in log order."""
    return reduce(evolve, facts, state)


def evolve(state: RunState, fact: Fact) -> RunState:
    """The state after one more fact.

    A fact seen before changes nothing, nor does one of another run, nor an assignment,
    refusal or end that the coordinator did not send (`bus.trust` has refused those already).
    """
    if fact.mark in state.seen or fact.run != (state.run or fact.run):
        return state
    state = replace(state, run=fact.run, seen=state.seen | {fact.mark})
    match fact.payload:
        case RunSubmitted() as submitted:
            return _submitted(state, fact, submitted)
        case StepClaimed() as claimed:
            return _claimed(state, fact, claimed)
        case StepCompleted() | StepFailed() as outcome:
            return _outcome(state, fact, outcome)
        case _ if fact.role == COORDINATOR:
            return _decided(state, fact)
        case _:
            return state


def _decided(state: RunState, fact: Fact) -> RunState:
    match fact.payload:
        case StepAssigned() as assigned:
            return _assigned(state, fact, assigned)
        case ResultRefused(refused=refused):
            return replace(
                state,
                refused=state.refused | {refused},
                refusals=tuple(each for each in state.refusals if each.id != refused),
            )
        case RunCompleted() | RunFailed() as ended:
            return state if state.ended else replace(state, ended=ended)
        case _:
            return state


def _submitted(state: RunState, fact: Fact, payload: RunSubmitted) -> RunState:
    if state.submission is not None:
        return state
    submission = Submission(
        id=fact.id,
        objective=payload.objective,
        workflow=payload.workflow,
        on_behalf_of=fact.on_behalf_of,
        traceparent=fact.traceparent,
    )
    return replace(state, submission=submission)


def _assigned(state: RunState, fact: Fact, payload: StepAssigned) -> RunState:
    """Take what the log says, even where `decide` would not ask for it: its id is used up."""
    key = payload.step, payload.iteration
    current = state.assignments.get(key)
    if key in state.results or (current and current.attempt >= payload.attempt):
        return state
    assignment = Assignment(id=fact.id, role=payload.role, attempt=payload.attempt)
    return replace(state, assignments={**state.assignments, key: assignment})


def _claimed(state: RunState, fact: Fact, payload: StepClaimed) -> RunState:
    """Keep every claim; which of them count is judged when a result comes."""
    if fact.cause is None:
        return state
    claim = Claim(
        assignment=fact.cause,
        role=fact.role,
        agent=fact.agent,
        epoch=payload.epoch,
    )
    return replace(state, claims={**state.claims, fact.mark: claim})


def _outcome(state: RunState, fact: Fact, payload: Outcome) -> RunState:
    objection = next(_objections(state, fact, payload), None)
    if objection is not None:
        return _refuse(state, fact, payload, objection)
    if isinstance(payload, StepCompleted):
        return _answered(state, fact, payload)
    failure = Failure(
        id=fact.id,
        code=payload.code,
        message=payload.message,
        retryable=payload.retryable,
    )
    return _end_attempt(state, payload, failure)


def _answered(state: RunState, fact: Fact, payload: StepCompleted) -> RunState:
    misfit = _misfit(fact.role, payload)
    if misfit is not None:
        failure = Failure(id=fact.id, code=AnswerRejected.code, message=misfit, retryable=True)
        return _end_attempt(_refuse(state, fact, payload, misfit), payload, failure)
    result = Result(
        id=fact.id,
        agent=fact.agent,
        epoch=payload.epoch,
        answer=payload.answer,
        model=payload.model,
        usage=payload.usage,
        duration_ms=payload.duration_ms,
    )
    return replace(state, results={**state.results, (payload.step, payload.iteration): result})


def _objections(state: RunState, fact: Fact, payload: Outcome) -> Iterator[str]:
    """Why an outcome does not count; the first reason is the one that is told."""
    where = f"step {payload.step}, iteration {payload.iteration}"
    if state.ended is not None:
        yield f"the run has {state.status}"
    if (payload.step, payload.iteration) in state.results:
        yield f"{where} has an accepted result already"
    assignment = state.assignments.get((payload.step, payload.iteration))
    if assignment is None:
        yield f"{where} was not assigned"
        return
    if payload.attempt != assignment.attempt:
        yield f"attempt {payload.attempt} is not the current one, {assignment.attempt}"
    if assignment.failure is not None:
        yield f"attempt {payload.attempt} is over: {assignment.failure.code}"
    if fact.role != assignment.role:
        yield f"{where} was assigned to role {assignment.role}, not {fact.role}"
    yield from _fencing(state, assignment, fact, payload)


def _fencing(
    state: RunState, assignment: Assignment, fact: Fact, payload: Outcome
) -> Iterator[str]:
    epochs = [
        claim.epoch
        for mark, claim in state.claims.items()
        if mark[2] == fact.cause
        and claim.assignment == assignment.id
        and claim.role == assignment.role
    ]
    if payload.epoch not in epochs:
        yield f"no known claim of this attempt stands behind epoch {payload.epoch}"
    last = state.last_claim(assignment)
    if last is not None and payload.epoch < last.epoch:
        yield f"epoch {payload.epoch} is superseded by {last.epoch}, claimed by {last.agent}"


def _misfit(role: str, payload: StepCompleted) -> str | None:
    try:
        role_spec(role, payload.step).read(to_json(payload.answer))
    except (AnswerRejected, UnknownRole) as rejected:
        return str(rejected)
    return None


def _refuse(state: RunState, fact: Fact, payload: Outcome, reason: str) -> RunState:
    """Keep the refusal, once for each id.

    An accepted id is spared: the refusal of another sender's copy would read as its own.
    """
    waiting = {refusal.id for refusal in state.refusals}
    accepted = {result.id for result in state.results.values()}
    if fact.id in state.refused | waiting | accepted:
        return state
    refusal = Refusal(
        id=fact.id,
        step=payload.step,
        iteration=payload.iteration,
        attempt=payload.attempt,
        epoch=payload.epoch,
        reason=reason,
    )
    return replace(state, refusals=(*state.refusals, refusal))


def _end_attempt(state: RunState, payload: Outcome, failure: Failure) -> RunState:
    key = payload.step, payload.iteration
    over = replace(state.assignments[key], failure=failure)
    return replace(state, assignments={**state.assignments, key: over})
