"""What is known of a run: a fold over the facts of its log, in log order.

Pure: no I/O, no clock, no randomness. Any facts in any order lead to a legal state; the
same facts in the same order always lead to the same one, however they are batched.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Final

from actors.control import asked, wished
from actors.definition import workflow_from
from actors.entry import Assignment, Ended, Flaw, Key, Result, Submission
from actors.errors import AnswerRejected, BadDefinition, UnknownRole
from actors.fact import COORDINATOR, GATEWAY, Fact, fact_of
from actors.outcome import claimed, key_of, told
from actors.record import UNREADABLE, RunState, StepStatus
from actors.shape import check_answer
from actors.workflow import WorkflowSpec
from bus.payloads import (
    ApprovalRequested,
    Fork,
    Request,
    ResultRefused,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StallNoticed,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
)
from policies.budgets import with_usage

__all__ = ["COORDINATOR", "Fact", "RunState", "StepStatus", "evolve", "fact_of", "fold"]

MAX_ID_CHARS: Final = 64
"""What an event may name as its cause; no sender of ours makes a longer id."""


def fold(state: RunState, facts: Iterable[Fact]) -> RunState:
    """The state after all of these facts, which come in log order."""
    return reduce(evolve, facts, state)


def evolve(state: RunState, fact: Fact) -> RunState:
    """The state after one more fact.

    A fact seen before changes nothing, nor does one of another run, nor a decision that the
    coordinator did not send or a wish that no gateway did (`bus.trust` has refused those
    already).
    """
    mark = fact.mark
    if mark in state.seen or fact.run != (state.run or fact.run) or len(fact.id) > MAX_ID_CHARS:
        return state
    seen = state.seen.insert(mark)
    moved_at = state.moved_at if isinstance(fact.payload, StallNoticed) else fact.time
    return _moved(replace(state, run=fact.run, seen=seen, moved_at=moved_at), fact)


def _moved(state: RunState, fact: Fact) -> RunState:
    match fact.payload:
        case StepClaimed() as payload:
            return claimed(state, fact, payload)
        case StepCompleted() | StepFailed() as payload:
            return told(_paid(state, fact, payload), fact, payload)
        case RunSubmitted() as payload:
            return _submitted(state, fact, payload)
        case Request() as payload if fact.role == GATEWAY:
            return wished(state, fact, payload)
        case _ if fact.role == COORDINATOR:
            return _decided(state, fact)
        case _:
            return state


def _paid(state: RunState, fact: Fact, payload: StepCompleted | StepFailed) -> RunState:
    """Count what an outcome has cost, whether it counts itself or not."""
    usage = payload.usage
    if usage is None or not usage.prompt_tokens + usage.completion_tokens:
        return state
    return replace(state, spent=with_usage(state.spent, fact.role, payload.model, usage))


def _decided(state: RunState, fact: Fact) -> RunState:
    match fact.payload:
        case StepAssigned() as payload:
            return _assigned(state, fact, payload)
        case ApprovalRequested() as payload:
            return asked(state, fact, payload)
        case ResultRefused(refused=refused):
            return replace(
                state,
                refused=state.refused.insert(refused),
                refusals=tuple(each for each in state.refusals if each.id != refused),
            )
        case RunCompleted() | RunFailed() | RunCancelled() as payload:
            return _ended(state, fact, payload)
        case _:
            return state


def _submitted(state: RunState, fact: Fact, payload: RunSubmitted) -> RunState:
    if state.submission is not None:
        return state
    submission = Submission(
        id=fact.id,
        at=fact.time,
        objective=payload.objective,
        workflow=payload.workflow,
        on_behalf_of=fact.on_behalf_of,
        sealed_for=fact.sealed_for,
        traceparent=fact.traceparent,
        priority=payload.priority,
        deadline_s=payload.deadline_s,
        instructions=payload.instructions,
        parent=payload.fork.parent if payload.fork else None,
        budget=payload.budget,
    )
    workflow, flaw = _workflow(state, payload)
    results: dict[Key, Result] = {}
    if workflow is not None and payload.fork is not None:
        results = _adopted(payload.fork)
        flaw = _misfit(workflow, payload.fork)
    return replace(
        state,
        submission=submission,
        workflow=None if flaw else workflow,
        flaw=UNREADABLE if fact.is_withheld else flaw,
        results={**results, **state.results},
    )


def _workflow(state: RunState, payload: RunSubmitted) -> tuple[WorkflowSpec | None, Flaw | None]:
    """What is to be run, as the log tells it, or as it is known by its name."""
    if payload.definition is not None:
        try:
            return workflow_from(payload.definition), None
        except BadDefinition as error:
            return None, Flaw(code=error.code, message=str(error))
    workflow = state.workflows.get(payload.workflow)
    if workflow is None:
        message = f"there is no workflow {payload.workflow}"
        return None, Flaw(code="unknown_workflow", message=message)
    return workflow, None


def _adopted(fork: Fork) -> dict[Key, Result]:
    results: dict[Key, Result] = {}
    for adopted in fork.adopted:
        result = Result(
            id=adopted.event,
            place=len(results),
            agent="",
            epoch=0,
            answer=adopted.answer,
            model=adopted.model,
            usage=adopted.usage,
            duration_ms=0,
            adopted=True,
        )
        results.setdefault((adopted.step, adopted.iteration, adopted.item), result)
    return results


def _misfit(workflow: WorkflowSpec, fork: Fork) -> Flaw | None:
    """What is wrong with the answers that a run takes over: they may have been changed."""
    for adopted in fork.adopted:
        step = workflow.step(adopted.step)
        if step is None:
            message = f"the run would adopt an answer of step {adopted.step}, which it has not"
            return Flaw(code="bad_fork", message=message)
        try:
            check_answer(step.role, step.name, step.answer_schema, adopted.answer)
        except (AnswerRejected, UnknownRole) as error:
            return Flaw(code="bad_fork", message=f"step {step.name}: {error}")
    return None


def _assigned(state: RunState, fact: Fact, payload: StepAssigned) -> RunState:
    """Take what the log says, even where `decide` would not ask for it: its id is used up."""
    key = key_of(payload)
    current = state.assignments.get(key)
    if key in state.results or (current and current.attempt >= payload.attempt):
        return state
    assignment = Assignment(
        id=fact.id,
        at=fact.time,
        role=payload.role,
        attempt=payload.attempt,
        answer_schema=payload.answer_schema,
        forgiven=current.forgiven if current else 0,
    )
    return replace(state, assignments={**state.assignments, key: assignment})


def _ended(state: RunState, fact: Fact, payload: Ended) -> RunState:
    return state if state.ended else replace(state, ended=payload, ended_at=fact.time)
