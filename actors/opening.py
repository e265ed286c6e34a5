"""What may begin in a run: every step whose inputs are there and nobody is to work on. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from actors.command import AssignStep, RequestApproval
from actors.entry import Approval, Assignment, Submission
from actors.fact import later
from actors.progress import Place, Progress
from actors.record import RunState
from actors.workflow import LoopSpec, Node, StepSpec, WorkflowSpec, steps_of
from policies.budgets import tokens_left


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A command that is due, or will be at that moment."""

    command: AssignStep | RequestApproval
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """A step in the iteration in which it may begin, and the event that made it possible."""

    step: StepSpec
    iteration: int
    inputs: Mapping[str, dict[str, JsonValue]]
    cause: str


def openings(progress: Progress, submission: Submission) -> Iterator[Opening]:
    """What may begin, in the order of declaration."""
    for node in progress.workflow.nodes:
        iteration = progress.round(node)
        for step in steps_of(node):
            if progress.results(step, iteration) is not None:
                continue
            places = progress.sources(node, step, iteration)
            if places is not None:
                yield from _openings_of(progress, submission, node, step, iteration, places)


def later_openings(
    state: RunState, workflow: WorkflowSpec, submission: Submission
) -> Iterator[Opening]:
    """Those that wait for a moment; only an attempt that is over has one."""
    if any(assignment.failure is not None for assignment in state.assignments.values()):
        every = openings(Progress(state, workflow), submission)
        yield from (opening for opening in every if opening.not_before is not None)


def _openings_of(
    progress: Progress,
    submission: Submission,
    node: Node,
    step: StepSpec,
    iteration: int,
    places: tuple[Place, ...],
) -> Iterator[Opening]:
    cause = progress.last_event(_awaited(node, iteration, places)) or submission.id
    if step.approval:
        approval = progress.state.approvals.get((step.name, iteration, 0))
        if approval is None:
            question = RequestApproval(
                step=step.name, iteration=iteration, role=step.role, cause=cause
            )
            yield Opening(command=question)
        answer = _permission(approval)
        if answer is None:
            return
        cause = answer
    start = _Start(
        step=step,
        iteration=iteration,
        inputs={name: dict(progress.answer(name, number)) for name, number in places},
        cause=cause,
    )
    if not step.for_each:
        yield from _opening_of(progress, submission, start, 0, None)
        return
    items = progress.items(step, iteration)
    if isinstance(items, list):
        for item, each in enumerate(items, start=1):
            yield from _opening_of(progress, submission, start, item, each)


def _permission(approval: Approval | None) -> str | None:
    """The event by which a person lets a step begin."""
    if approval is None or approval.status != "given" or approval.answer is None:
        return None
    return approval.answer.id


def _awaited(node: Node, iteration: int, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """All that a first attempt had to wait for."""
    if isinstance(node, LoopSpec) and iteration > 1:
        return (*places, *((step.name, iteration - 1) for step in node.steps))
    return places


def _opening_of(
    progress: Progress, submission: Submission, start: _Start, item: int, each: JsonValue
) -> Iterator[Opening]:
    step, state = start.step, progress.state
    key = step.name, start.iteration, item
    last = state.assignments.get(key)
    if key in state.results or (last is not None and last.failure is None):
        return
    cause, not_before = _again(progress, step, last) if last else (start.cause, None)
    command = AssignStep(
        step=step.name,
        iteration=start.iteration,
        item=item,
        attempt=last.attempt + 1 if last else 1,
        role=step.role,
        objective=submission.objective,
        inputs=start.inputs,
        deadline_s=step.deadline_s,
        each=each,
        instructions=submission.instructions.get(step.name, ""),
        answer_schema=step.answer_schema,
        tokens_left=tokens_left(submission.budget, state.spent, step.role),
        cause=cause,
    )
    yield Opening(command=command, not_before=not_before)


def _again(progress: Progress, step: StepSpec, last: Assignment) -> tuple[str, datetime | None]:
    """What another attempt answers, and when it may begin: at once, if a person asked for it."""
    failure, reopened = last.failure, progress.state.reopened
    if failure is None:
        raise ValueError(f"the attempt of {last.id} is not over")
    if last.tries == 0 and reopened is not None:
        return reopened.id, None
    return failure.id, later(failure.at, step.backoff_after_s(last.tries))
