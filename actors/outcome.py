"""What an agent says of its work, folded into the state of the run. Pure.

A result is accepted if it is the first in the log that fits: an answer of the assigned
role, caused by a known claim of the current attempt, under an epoch that no later claim
has fenced off, and of the shape that was asked for. Everything else is kept as a refusal
until the log holds the event that says so. An answer of the wrong shape also ends its
attempt.
"""

from collections.abc import Iterator
from dataclasses import replace

from actors.entry import Assignment, Claim, Failure, Key, Refusal, Result
from actors.errors import AnswerRejected, UnknownRole
from actors.fact import Fact
from actors.record import RunState
from actors.shape import check_answer
from bus.payloads import StepClaimed, StepCompleted, StepFailed, StepPayload

Outcome = StepCompleted | StepFailed


def key_of(payload: StepPayload) -> Key:
    """The step, iteration and item that an event is about."""
    return payload.step, payload.iteration, payload.item


def claimed(state: RunState, fact: Fact, payload: StepClaimed) -> RunState:
    """Keep every claim; which of them count is judged when a result comes."""
    if fact.cause is None:
        return state
    claim = Claim(id=fact.id, at=fact.time, role=fact.role, agent=fact.agent, epoch=payload.epoch)
    earlier = state.claims.get(fact.cause, ())
    return replace(state, claims={**state.claims, fact.cause: (*earlier, claim)})


def told(state: RunState, fact: Fact, payload: Outcome) -> RunState:
    """The state after an answer or a failure, which counts or is refused."""
    objection = next(_objections(state, fact, payload), None)
    if objection is not None:
        return _refuse(state, fact, payload, objection)
    if isinstance(payload, StepCompleted):
        return _answered(state, fact, payload)
    failure = Failure(
        id=fact.id,
        at=fact.time,
        code=payload.code,
        message=payload.message,
        retryable=payload.retryable,
    )
    return _end_attempt(state, payload, failure)


def _answered(state: RunState, fact: Fact, payload: StepCompleted) -> RunState:
    key = key_of(payload)
    try:
        if not (fact.is_withheld and state.is_unreadable):  # judged when it could be read
            schema = state.assignments[key].answer_schema
            check_answer(fact.role, payload.step, schema, payload.answer)
    except (AnswerRejected, UnknownRole) as rejected:
        failure = Failure(
            id=fact.id,
            at=fact.time,
            code=AnswerRejected.code,
            message=str(rejected),
            retryable=True,
        )
        refused = _refuse(state, fact, payload, str(rejected))
        return _end_attempt(refused, payload, failure)
    result = Result(
        id=fact.id,
        place=len(state.results),
        agent=fact.agent,
        epoch=payload.epoch,
        answer=payload.answer,
        model=payload.model,
        usage=payload.usage,
        duration_ms=payload.duration_ms,
        recalled=payload.recalled,
    )
    return replace(
        state,
        results={**state.results, key: result},
        counted=state.counted.insert(fact.id),
    )


def _objections(state: RunState, fact: Fact, payload: Outcome) -> Iterator[str]:
    """Why an outcome does not count; the first reason is the one that is told."""
    part = f", item {payload.item}" if payload.item else ""
    where = f"step {payload.step}, iteration {payload.iteration}{part}"
    if state.ended is not None:
        yield f"the run {'was' if state.status == 'cancelled' else 'has'} {state.status}"
    key = key_of(payload)
    if key in state.results:
        yield f"{where} has an accepted result already"
    assignment = state.assignments.get(key)
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
    claims = state.claims.get(assignment.id, ())
    if not any(
        claim.id == fact.cause and claim.epoch == payload.epoch and claim.role == assignment.role
        for claim in claims
    ):
        yield f"no known claim of this attempt stands behind epoch {payload.epoch}"
    last = state.last_claim(assignment)
    if last is not None and payload.epoch < last.epoch:
        yield f"epoch {payload.epoch} is superseded by {last.epoch}, claimed by {last.agent}"


def _refuse(state: RunState, fact: Fact, payload: Outcome, reason: str) -> RunState:
    """Keep the refusal, once for each id.

    An id that counted is spared: the refusal of another sender's copy would read as its own.
    So is a run that cannot be read: it ends, or has ended, and was judged when it could be.
    """
    if fact.id in state.refused or fact.id in state.counted or state.is_unreadable:
        return state
    if any(refusal.id == fact.id for refusal in state.refusals):
        return state
    refusal = Refusal(
        id=fact.id,
        step=payload.step,
        iteration=payload.iteration,
        item=payload.item,
        attempt=payload.attempt,
        epoch=payload.epoch,
        reason=reason,
    )
    return replace(state, refusals=(*state.refusals, refusal))


def _end_attempt(state: RunState, payload: Outcome, failure: Failure) -> RunState:
    key = key_of(payload)
    over = replace(state.assignments[key], failure=failure)
    return replace(
        state,
        assignments={**state.assignments, key: over},
        counted=state.counted.insert(failure.id),
    )
