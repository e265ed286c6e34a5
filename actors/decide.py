"""What happens next in a run: state and time in, commands out. Pure.

The same state at the same time always gives the same commands, and their ids depend on
nothing but the run, so two coordinators that decide from the same log say the same. Once
the events that the commands make are folded, there is nothing more to ask for until
another fact comes, or the moment that `wake_at` names.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic_core import to_json

from actors.command import (
    MOST_BYTES,
    AssignStep,
    CancelRun,
    Command,
    CompleteRun,
    FailRun,
    RefuseResult,
    RequestApproval,
    draft_of,
)
from actors.ending import end_of_work, end_without_work
from actors.opening import later_openings, openings
from actors.progress import Progress
from actors.record import RunState

__all__ = [
    "AssignStep",
    "CancelRun",
    "Command",
    "CompleteRun",
    "FailRun",
    "RefuseResult",
    "RequestApproval",
    "decide",
    "draft_of",
    "wake_at",
]


def decide(state: RunState, now: datetime) -> tuple[Command, ...]:
    """What the coordinator has to say now: refusals first, then how the run goes on."""
    refusals = (
        RefuseResult(
            refused=refusal.id,
            step=refusal.step,
            iteration=refusal.iteration,
            item=refusal.item,
            attempt=refusal.attempt,
            epoch=refusal.epoch,
            reason=refusal.reason,
        )
        for refusal in state.refusals
    )
    return (*refusals, *_go_on(state, now))


def wake_at(state: RunState, now: datetime) -> datetime | None:
    """The next moment after now at which `decide` could say something new without another fact.

    What has passed does not count: `decide` says it now. None if time changes nothing more.
    """
    submission, workflow = state.submission, state.workflow
    if submission is None or workflow is None or state.ended is not None:
        return None
    moments = [] if state.deadline_at is None else [state.deadline_at]
    if not state.paused:
        later = later_openings(state, workflow, submission)
        moments += [opening.not_before for opening in later if opening.not_before]
    return min((moment for moment in moments if moment > now), default=None)


def _go_on(state: RunState, now: datetime) -> tuple[Command, ...]:
    submission, workflow = state.submission, state.workflow
    if submission is None or state.ended is not None:
        return ()
    end = end_without_work(state, submission)
    if end is not None or workflow is None:
        return (end,) if end else ()
    progress = Progress(state, workflow)
    end = end_of_work(progress, submission, now)
    if end is not None or state.paused:
        return (end,) if end else ()
    begin = tuple(
        opening.command
        for opening in openings(progress, submission)
        if opening.not_before is None or now >= opening.not_before
    )
    return next(_oversize(begin), None) or begin


def _oversize(commands: Iterable[AssignStep | RequestApproval]) -> Iterator[tuple[FailRun]]:
    """The end of the run, for each assignment that no event could hold."""
    measured: dict[int, int] = {}  # the parts of a fan-out share their inputs
    for command in commands:
        if isinstance(command, RequestApproval):
            continue
        shared = id(command.inputs)
        if shared not in measured:
            measured[shared] = len(to_json(command.inputs))
        own = command.objective, command.each, command.instructions, command.answer_schema
        size_bytes = measured[shared] + len(to_json(own))
        if size_bytes > MOST_BYTES:
            message = f"step {command.step} would read {size_bytes} bytes; declare fewer inputs"
            end = FailRun(
                code="inputs_too_large", message=message, step=command.step, cause=command.cause
            )
            yield (end,)
