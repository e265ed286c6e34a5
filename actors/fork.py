"""A run that branches off from another: the same up to an event, with changes from there. Pure.

What the parent had accepted by then is adopted and not asked for again; an answer may be
changed on the way, as long as it still has the shape of its step.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue, ValidationError

from actors.entry import Key, Result
from actors.errors import AnswerRejected, CannotFork, UnknownForkEvent, UnknownRole
from actors.fact import fact_of
from actors.progress import Progress
from actors.record import RunState
from actors.run_state import fold
from actors.shape import check_answer
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.event import StoredEvent
from bus.payloads import AdoptedResult, Fork, RunSubmitted

SETTABLE: Final = ("objective", "priority", "deadline_s", "budget_tokens")
"""What may be changed of the submission; anything else that is set is a field of an answer."""
_INDEX = re.compile(r"[0-9]{1,9}")
_ANSWER_FIELD = re.compile(
    r"(?P<step>[A-Za-z0-9_-]+)(?:#(?P<iteration>[1-9][0-9]{0,8}))?(?:/(?P<item>[1-9][0-9]{0,8}))?"
    r"\.(?P<field>.+)\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What shall be different.

    Attributes:
        values: by name: `SETTABLE`, or ``STEP.FIELD`` for a field of an adopted answer. The
            last round is meant unless it says ``STEP#ROUND.FIELD``; a part of a fan-out is
            ``STEP/ITEM.FIELD`` or ``STEP#ROUND/ITEM.FIELD``.
        instructions: what to tell the agent of a step besides its prompt, by step.
    """

    values: Mapping[str, JsonValue] = field(default_factory=dict)
    instructions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """An answer that the parent had accepted, on its way into the fork."""

    result: Result
    answer: dict[str, JsonValue]
    changed: bool = False


def fork_run(
    events: Sequence[StoredEvent],
    at: str,
    changes: Changes,
    *,
    requested_by: str,
    start: RunState | None = None,
) -> RunSubmitted:
    """The submission of a run that branches off.

    Args:
        events: those of the parent, verified, in the order of the log.
        at: the parent's last event that both share: its id, or its place in the log.
        changes: what shall be different.
        requested_by: who wants it.
        start: with the workflows of submissions that have no definition.

    Raises:
        UnknownForkEvent: the parent has no such event.
        CannotFork: the changes do not fit; the message says which and why.
    """
    shared = _shared(events, at)
    state = fold(start or RunState(), map(fact_of, shared))
    submitted = _submission(events, state)
    workflow = state.workflow
    if workflow is None:
        reason = state.flaw.message if state.flaw else "it has no workflow"
        raise CannotFork(f"run {state.run} cannot be run: {reason}")
    answers = {
        key: _Answer(result=result, answer=dict(result.answer))
        for key, result in state.results.items()
    }
    wanted = dict(changes.values)
    own = {name: wanted.pop(name) for name in SETTABLE if name in wanted}
    for name, value in wanted.items():
        key, place = _place(name, workflow, answers)
        answers[key] = _changed(name, answers[key], place, value)
    _check_shapes(workflow, answers)
    _check_instructions(changes.instructions, _forked(state, workflow, answers))
    adopted = tuple(_adopted(key, answer) for key, answer in answers.items())
    try:
        return RunSubmitted.model_validate(
            {
                **submitted.model_dump(),
                **own,
                "requested_by": requested_by,
                "instructions": {**submitted.instructions, **changes.instructions},
                "fork": Fork(parent=state.run, at=shared[-1].event.id, adopted=adopted),
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CannotFork(f"{where[:64]}: {first['msg']}") from error


def _shared(events: Sequence[StoredEvent], at: str) -> Sequence[StoredEvent]:
    for index, stored in enumerate(events):
        if at in (stored.event.id, str(stored.stream_sequence)):
            return events[: index + 1]
    raise UnknownForkEvent(f"the run has no event {at[:64]!r}")


def _submission(events: Sequence[StoredEvent], state: RunState) -> RunSubmitted:
    for stored in events:
        payload = stored.payload()
        if (
            isinstance(payload, RunSubmitted)
            and state.submission is not None
            and stored.event.id == state.submission.id
        ):
            return payload
    raise UnknownForkEvent("the run was not submitted yet at that event")


def _place(
    name: str, workflow: WorkflowSpec, answers: Mapping[Key, _Answer]
) -> tuple[Key, list[str]]:
    """Which answer a name means, and which field of it."""
    match = _ANSWER_FIELD.match(name)
    if match is None:
        raise CannotFork(
            f"{name[:64]!r} cannot be set: there are {', '.join(SETTABLE)}, STEP.FIELD"
        )
    step = match["step"]
    if workflow.step(step) is None:
        raise CannotFork(f"{name[:64]}: workflow {workflow.name} has no step {step[:64]!r}")
    iteration, item = match["iteration"], int(match["item"] or 0)
    rounds = sorted(key[1] for key in answers if key[0] == step and key[2] == item)
    if not rounds and not item and any(key[0] == step for key in answers):
        raise CannotFork(f"{name[:64]}: step {step} has parts; name one as {step}/1.FIELD")
    if not rounds or (iteration and int(iteration) not in rounds):
        raise CannotFork(f"{name[:64]}: step {step} had no such answer at that event")
    key = step, int(iteration) if iteration else rounds[-1], item
    return key, match["field"].split(".")


def _changed(name: str, was: _Answer, place: Sequence[str], value: JsonValue) -> _Answer:
    """The answer with another value at a place, which must be there already."""
    field, *rest = place
    try:
        answer = {**was.answer, field: _with(was.answer[field], rest, value)}
    except LookupError as error:
        raise CannotFork(f"{name[:64]}: the answer has no such field") from error
    return replace(was, answer=answer, changed=answer != dict(was.result.answer))


def _with(value: JsonValue, place: Sequence[str], new: JsonValue) -> JsonValue:
    """The value with another one at a place; a LookupError if there is no such place."""
    if not place:
        return new
    head, *rest = place
    if isinstance(value, dict):
        return {**value, head: _with(value[head], rest, new)}
    if isinstance(value, list) and _INDEX.fullmatch(head):
        index = int(head)
        return [*value[:index], _with(value[index], rest, new), *value[index + 1 :]]
    raise LookupError(head)


def _check_shapes(workflow: WorkflowSpec, answers: Mapping[Key, _Answer]) -> None:
    for (name, _, _), answer in answers.items():
        step = workflow.step(name)
        if step is None or not answer.changed:
            continue
        try:
            check_answer(step.role, step.name, step.answer_schema, answer.answer)
        except (AnswerRejected, UnknownRole) as error:
            raise CannotFork(f"the changed answer of step {name} does not fit: {error}") from error


def _forked(state: RunState, workflow: WorkflowSpec, answers: Mapping[Key, _Answer]) -> Progress:
    """How far the run that branches off has come when it begins."""
    results = {key: replace(each.result, answer=each.answer) for key, each in answers.items()}
    return Progress(replace(state, results=results), workflow)


def _check_instructions(instructions: Mapping[str, str], forked: Progress) -> None:
    """Refuse what nobody would read: an adopted answer is not asked for again."""
    for name in instructions:
        step = forked.workflow.step(name)
        if step is None:
            raise CannotFork(f"workflow {forked.workflow.name} has no step {name[:64]!r}")
        if not _may_begin(forked, step):
            raise CannotFork(
                f"step {name} keeps its answer, so that its instructions would not be read; "
                "branch off before it"
            )


def _may_begin(forked: Progress, step: StepSpec) -> bool:
    """Whether a step is still to be done, in this round of its loop or in one that may follow."""
    node = forked.workflow.node_of(step.name)
    if forked.final_round(node):
        return False
    number = forked.round(node)
    if forked.results(step, number) is None:
        return True
    return isinstance(node, LoopSpec) and number < node.limit and not _accepts(forked, node, number)


def _accepts(forked: Progress, loop: LoopSpec, number: int) -> bool:
    """Whether the verdict of a round is there, and ends the loop."""
    verdict = forked.state.results.get((loop.verdict_step, number, 0))
    return verdict is not None and verdict.answer.get("accepted") is True


def _adopted(key: Key, answer: _Answer) -> AdoptedResult:
    step, iteration, item = key
    return AdoptedResult(
        step=step,
        iteration=iteration,
        item=item,
        event=answer.result.id,
        answer=answer.answer,
        changed=answer.changed,
        model=answer.result.model,
        usage=answer.result.usage,
    )
